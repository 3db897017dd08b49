//! An HTTP server that answers as a test wants: for what no real server does on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(found, _)| found == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// None at all, until the server ends.
    Hang,
    /// None: the connection is closed.
    Close,
}

impl Reply {
    /// An answer.
    #[must_use]
    pub fn new(status: u16, headers: &[(&'static str, &str)], body: impl Into<String>) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Self::Answer(status, headers.collect(), body.into())
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server on a free port of 127.0.0.1. Ends when dropped.
pub struct ScriptedHttp {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
    over: (Mutex<bool>, Condvar),
}

impl ScriptedHttp {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// A machine without a free port.
    pub fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the server")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
            over: (Mutex::new(false), Condvar::new()),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away is none of the test's business.
                thread::spawn(move || serving.serve(client));
            }
        });
        Ok(Self { address, shared })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> Option<()> {
        let mut client = BufReader::new(client);
        let asked = read(&mut client)?;
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(asked.clone());
        let reply = (self.handler)(&asked);
        if matches!(reply, Reply::Close) {
            return None;
        }
        let Reply::Answer(status, headers, body) = reply else {
            let (over, changed) = &self.over;
            let over = over.lock().unwrap_or_else(PoisonError::into_inner);
            drop(changed.wait_while(over, |over| !*over));
            return None;
        };
        let mut text = format!(
            "HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        if asked.method != "HEAD" {
            text += &body;
        }
        client.get_mut().write_all(text.as_bytes()).ok()
    }
}

fn read(client: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    client.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        client.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .and_then(|length| length.parse().ok());
    asked.body.resize(length.unwrap_or_default(), 0);
    client.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

impl Drop for ScriptedHttp {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        *self.shared.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.over.1.notify_all();
        // Wakes the listener, so that it sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}
