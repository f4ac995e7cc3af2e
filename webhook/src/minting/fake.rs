//! What unit tests have in the place of a MinIO: its admin API, as far as it goes without reading what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tidewaiter_minio::encrypt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The user that asks, and the secret that `tests::YAML` has for it.
const USER: &str = "root";
const SECRET: &str = "the-roots-secret";

#[derive(Clone)]
pub(crate) struct Minio {
    pub(crate) endpoint: String,
    pub(crate) state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Access keys, and whose they are.
    pub(crate) accounts: BTreeMap<String, String>,
    /// What it was asked for: `add KEY`.
    pub(crate) requests: Vec<String>,
    /// It has no right to change keys, or to see others'.
    pub(crate) poor: bool,
    /// It takes requests, and never answers.
    pub(crate) silent: bool,
    /// It answers that it can't.
    pub(crate) unwell: bool,
}

impl Minio {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let minio = Self {
            endpoint,
            state: Arc::default(),
        };
        let server = minio.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        minio
    }

    pub(crate) fn put(&self, key: &str, user: &str) {
        self.state.lock().unwrap().accounts.insert(key.into(), user.into());
    }

    pub(crate) fn own(&self, key: &str) {
        self.put(key, USER);
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().accounts.keys().cloned().collect()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).await.unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let path = first.split(' ').nth(1).unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let action = path.rsplit('/').next().unwrap().split('-').next().unwrap();
        let key = query.strip_prefix("accessKey=").unwrap_or_default();
        let silent = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(format!("{action} {key}").trim_end().to_owned());
            state.silent
        };
        if silent {
            std::future::pending::<()>().await;
        }
        let (status, body) = self.answer(action, key);
        let head = format!(
            "HTTP/1.1 {status} It is so\r\nserver: MinIO\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    }

    fn answer(&self, action: &str, key: &str) -> (u16, Vec<u8>) {
        let refusal = |status: u16, code: &str| (status, json!({"Code": code}).to_string().into_bytes());
        let shown = |key: &str, user: &str| {
            json!({
                "accessKey": key, "parentUser": user, "accountStatus": "on", "impliedPolicy": false, "policy": "{}",
            })
        };
        let mut state = self.state.lock().unwrap();
        let user = state.accounts.get(key).cloned();
        let own = user.as_deref() == Some(USER);
        let none = refusal(404, "XMinioInvalidIAMCredentials");
        if state.unwell {
            return refusal(503, "XMinioServerNotInitialized");
        }
        match action {
            "list" => {
                let own = state.accounts.iter().filter(|(_, user)| *user == USER);
                let accounts: Vec<_> = own.map(|(key, user)| shown(key, user)).collect();
                let said = json!({ "accounts": accounts }).to_string();
                (200, encrypt(SECRET, said.as_bytes()).unwrap())
            }
            "add" if user.is_some() => refusal(400, "XMinioIAMServiceAccountNotAllowed"),
            "add" => {
                state.accounts.insert(key.into(), USER.into());
                (200, Vec::new())
            }
            _ if user.is_none() => none,
            "update" if state.poor => refusal(403, "AccessDenied"),
            "update" => (204, Vec::new()),
            "info" if state.poor && !own => refusal(403, "AccessDenied"),
            "info" => {
                let said = shown(key, &user.unwrap_or_default()).to_string();
                (200, encrypt(SECRET, said.as_bytes()).unwrap())
            }
            "delete" if state.poor && !own => none,
            "delete" => {
                state.accounts.remove(key);
                (204, Vec::new())
            }
            _ => refusal(404, "NoSuchThing"),
        }
    }
}
