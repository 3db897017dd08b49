//! The health server over loopback, by requests written byte for byte.

use prometheus::IntCounter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

struct Served {
    address: SocketAddr,
    health: Health,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn serve_with(heartbeat: Heartbeat) -> Served {
    let server = HealthServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    let health = Health {
        registry: Registry::new(),
        heartbeat,
        readiness: Readiness::not_ready("not connected to NATS"),
    };
    let (shutdown, ended) = oneshot::channel();
    let serving = tokio::spawn(server.serve(health.clone(), async {
        let _ = ended.await;
    }));
    Served {
        address,
        health,
        shutdown,
        serving,
    }
}

async fn serve() -> Served {
    serve_with(Heartbeat::new(LONG)).await
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

/// What comes until the server ends the connection, in whatever way.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let answer = send(
        address,
        &format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"),
    )
    .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn get_path(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, "GET", path).await;
    (status, body)
}

#[tokio::test]
async fn metrics_are_those_of_the_registry_in_prometheus_text_format() {
    let served = serve().await;
    let counter = IntCounter::new("hardprune_test_total", "Help.").unwrap();
    served
        .health
        .registry
        .register(Box::new(counter.clone()))
        .unwrap();
    counter.inc_by(3);
    let (status, head, body) = ask(served.address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(
        body,
        "# HELP hardprune_test_total Help.\n# TYPE hardprune_test_total counter\nhardprune_test_total 3\n"
    );
    counter.inc();
    let (_, body) = get_path(served.address, "/metrics").await;
    assert!(body.ends_with("hardprune_test_total 4\n"), "{body}");
}

#[tokio::test]
async fn a_process_is_alive_while_its_main_loop_turns() {
    let served = serve().await;
    served.health.heartbeat.beat();
    assert_eq!(
        get_path(served.address, "/healthz").await,
        (200, "alive\n".to_owned())
    );
}

#[tokio::test]
async fn a_process_whose_main_loop_stands_still_is_not_alive() {
    let served = serve_with(Heartbeat::new(Duration::ZERO)).await;
    let (status, body) = get_path(served.address, "/healthz").await;
    assert_eq!(status, 503);
    assert!(body.starts_with("the main loop has not moved for "), "{body}");
}

#[tokio::test]
async fn a_process_is_ready_when_it_says_so_and_else_says_why_not() {
    let served = serve().await;
    let not_connected = (503, "not connected to NATS\n".to_owned());
    assert_eq!(get_path(served.address, "/readyz").await, not_connected);
    served.health.readiness.set_ready();
    assert_eq!(
        get_path(served.address, "/readyz").await,
        (200, "ready\n".to_owned())
    );
    served.health.readiness.set_not_ready("draining");
    assert_eq!(
        get_path(served.address, "/readyz").await,
        (503, "draining\n".to_owned())
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = serve().await;
    for path in ["/", "/metrics/", "/metricsx", "/../metrics", "/healthz/readyz"] {
        assert_eq!(get_path(served.address, path).await.0, 404, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let (status, head, _) = ask(served.address, method, path).await;
            assert_eq!(status, 405, "{method} {path}");
            assert!(head.contains("allow: get,head"), "{head}");
        }
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let taken = HealthServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.address();
    let error = HealthServer::bind(HealthAddress::At(address)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot listen on {address} (--health-addr): ")),
        "{text}"
    );
}

#[tokio::test]
async fn all_addresses_include_that_of_ipv4() {
    let server = HealthServer::bind(":0".parse().unwrap()).await.unwrap();
    let port = server.address().port();
    let connecting = TcpStream::connect(("127.0.0.1", port));
    let (accepted, connected) = tokio::join!(server.listener.accept(), connecting);
    accepted.unwrap();
    connected.unwrap();
}

// Time is paused: where all wait for each other it leaps to the server's next deadline.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_or_half_a_request_is_cut_off() {
    let served = serve().await;
    for sent in ["", "GET /metrics HTTP/1.1\r\nHost: te"] {
        assert_eq!(send(served.address, sent).await, "", "{sent:?}");
    }
}

#[tokio::test]
async fn a_request_with_too_much_in_its_head_is_refused() {
    let served = serve().await;
    let many = "A: b\r\n".repeat(MOST_HEADERS + 1);
    let large = format!("A: {}\r\n", "b".repeat(LARGEST_BUFFER));
    for headers in [many, large] {
        let answer = send(served.address, &format!("GET /healthz HTTP/1.1\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn of_too_many_connections_the_oldest_goes() {
    let served = serve().await;
    let mut idle = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        idle.push(TcpStream::connect(served.address).await.unwrap());
    }
    assert_eq!(get_path(served.address, "/healthz").await.0, 200);
    assert_eq!(rest(&mut idle[0]).await, "");
}

#[tokio::test]
async fn a_shutdown_ends_the_server_though_a_client_holds_on() {
    let served = serve().await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(get_path(served.address, "/healthz").await.0, 200);
    served.shutdown.send(()).unwrap();
    served.serving.await.unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(served.address).await.is_err());
}
