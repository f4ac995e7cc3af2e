//! A way to a server on which answers take as long as a test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Passes connections on to a server. Ends with the process.
#[derive(Debug)]
pub struct SlowWay {
    delay: Arc<AtomicU64>,
}

impl SlowWay {
    /// Listens on `from` for what is meant for `to`. Without delay until [`SlowWay::delay`].
    pub fn open(from: &str, to: &str) -> Result<Self> {
        let to: SocketAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        let listener = TcpListener::bind(from).with_context(|| format!("can't listen on {from}"))?;
        let delay = Arc::new(AtomicU64::new(0));
        let way = Self {
            delay: Arc::clone(&delay),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let delay = Arc::clone(&delay);
                // A connection that fails is one that its two ends learn of.
                std::thread::spawn(move || drop(pass(client, to, &delay)));
            }
        });
        Ok(way)
    }

    /// Each answer from now on begins so much later.
    pub fn delay(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.delay.store(by, Ordering::Relaxed);
    }
}

/// Passes on what each of two ends says to the other, until both are done.
pub(crate) fn connect(client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    both(client, server, &AtomicU64::new(0))
}

fn pass(client: TcpStream, to: SocketAddr, delay: &AtomicU64) -> std::io::Result<()> {
    both(client, TcpStream::connect(to)?, delay)
}

fn both(mut client: TcpStream, mut server: TcpStream, delay: &AtomicU64) -> std::io::Result<()> {
    let (mut asked_by, mut asks) = (client.try_clone()?, server.try_clone()?);
    // Set by what the client sends: what the server sends next is the start of an answer.
    let asked = Arc::new(AtomicBool::new(false));
    let asking = Arc::clone(&asked);
    std::thread::spawn(move || {
        let _ = copy(&mut asked_by, &mut asks, || asking.store(true, Ordering::Relaxed));
        let _ = asks.shutdown(Shutdown::Write);
    });
    let copied = copy(&mut server, &mut client, || {
        if asked.swap(false, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(delay.load(Ordering::Relaxed)));
        }
    });
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    copied
}

fn copy(from: &mut TcpStream, to: &mut TcpStream, before: impl Fn()) -> std::io::Result<()> {
    let mut bytes = [0; 16 << 10];
    loop {
        let length = from.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        before();
        to.write_all(&bytes[..length])?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn each_answer_is_late_and_whole() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("a client");
            let mut question = [0; 4];
            while stream.read_exact(&mut question).is_ok() {
                stream.write_all(&question.repeat(50_000)).expect("an answer");
            }
        });
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a port");
        let way = SlowWay::open(&free.to_string(), &address.to_string()).expect("a way");
        let mut client = TcpStream::connect(free).expect("a connection");
        let mut ask = |question: &[u8; 4]| {
            let start = Instant::now();
            client.write_all(question).expect("a question");
            let mut answer = vec![0; 200_000];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, question.repeat(50_000));
            start.elapsed()
        };
        ask(b"abcd");
        way.delay(Duration::from_millis(500));
        let late = ask(b"efgh");
        assert!(late >= Duration::from_millis(500), "{late:?}");
        way.delay(Duration::ZERO);
        assert!(ask(b"ijkl") < late);
    }
}
