//! A server for tests that gives canned answers, one a request, and keeps what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
pub(super) enum Reply {
    /// Answers.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// Promises more bytes than it sends, and closes the connection.
    Cut { body: Vec<u8>, missing: usize },
    /// Says nothing and keeps the connection.
    Hang,
    /// Closes the connection without an answer.
    Close,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Method and target: `GET /bucket?list-type=2`.
    pub line: String,
    pub head: String,
    pub body: String,
}

/// The server; it ends with its runtime.
pub(super) struct ScriptedServer {
    pub endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ScriptedServer {
    /// Starts a server that gives `replies` in turn, and 400 after the last.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&replies), Arc::clone(&log)));
            }
        });
        Self { endpoint, asked }
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Their first lines.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn serve(mut connection: TcpStream, replies: Arc<Mutex<VecDeque<Reply>>>, log: Arc<Mutex<Vec<Asked>>>) {
    let Some(asked) = read_request(&mut connection).await else {
        return;
    };
    log.lock().unwrap().push(asked);
    let reply = replies.lock().unwrap().pop_front();
    match reply.unwrap_or_else(|| Reply::new(400, "the script is over")) {
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
            if !headers.iter().any(|(name, _)| *name == "transfer-encoding") && status != 204 {
                head.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let _ = connection.write_all(head.as_bytes()).await;
            let _ = connection.write_all(&body).await;
        }
        Reply::Cut { body, missing } => {
            let head = format!(
                "HTTP/1.1 200 X\r\netag: \"e\"\r\ncontent-length: {}\r\n\r\n",
                body.len() + missing
            );
            let _ = connection.write_all(head.as_bytes()).await;
            let _ = connection.write_all(&body).await;
        }
        Reply::Hang => {
            let mut byte = [0];
            let _ = connection.read(&mut byte).await;
        }
        Reply::Close => {}
    }
}

async fn read_request(connection: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                let first = head.lines().next().unwrap_or_default();
                return Some(Asked {
                    line: first.trim_end_matches(" HTTP/1.1").to_owned(),
                    head: head.to_ascii_lowercase(),
                    body: body.to_owned(),
                });
            }
        }
        let mut piece = [0; 4096];
        match connection.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
