//! Who gives out Google's and Microsoft's tokens, played: nothing that runs elsewhere does. It looks at who asks, not at signatures; the rebuilt stores don't
//! either.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tidewaiter_ground::tls::{Pair, from_base64};

use crate::microsoft;

/// Whom Google knows: a service account, and a person by what `gcloud` keeps of them.
pub(crate) const ACCOUNT: &str = "models@ml.iam.gserviceaccount.com";
pub(crate) const REFRESH_TOKEN: &str = "of-a-person";

/// The running service.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tokens {
    given: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    /// Listens until the process ends.
    pub(crate) fn start(address: &str, pair: &Pair) -> Result<Self> {
        let certificates =
            CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        let config = Arc::new(config);
        let listener = TcpListener::bind(address).with_context(|| format!("can't listen on {address}"))?;
        let tokens = Self::default();
        let own = tokens.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Err(error) = own.answer(client, &config) {
                    eprintln!("a request for a token broke: {error:#}");
                }
            }
        });
        Ok(tokens)
    }

    /// To whom tokens were given since this was last asked.
    pub(crate) fn given(&self) -> Vec<String> {
        std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, client: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
        let connection = ServerConnection::new(Arc::clone(config))?;
        let mut stream = BufReader::new(StreamOwned::new(connection, client));
        let (mut length, mut is_microsofts) = (0, false);
        let mut asked = String::new();
        stream.read_line(&mut asked)?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            is_microsofts |= line
                .strip_prefix("host:")
                .is_some_and(|host| host.trim() == microsoft::HOST);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        let known = if is_microsofts {
            let path = asked.split(' ').nth(1).unwrap_or_default();
            microsoft::answer(path, |name| field(&body, name).map(str::to_owned))
        } else {
            let given = json!({"access_token": "given", "expires_in": 3600, "token_type": "Bearer"});
            whom(&body).map(|whom| (given, Some(whom)))
        };
        let (status, answer) = if let Some((answer, whom)) = known {
            self.given.lock().unwrap_or_else(PoisonError::into_inner).extend(whom);
            ("200 OK", answer.to_string())
        } else if is_microsofts {
            ("401 Unauthorized", microsoft::refusal().to_string())
        } else {
            let refusal = json!({"error": "invalid_grant", "error_description": "Bad Request"});
            ("400 Bad Request", refusal.to_string())
        };
        let client = stream.get_mut();
        write!(
            client,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        )?;
        client.conn.send_close_notify();
        Ok(client.flush()?)
    }
}

fn field<'a>(form: &'a str, wanted: &str) -> Option<&'a str> {
    let mut fields = form.split('&').filter_map(|field| field.split_once('='));
    fields.find_map(|(name, value)| (name == wanted).then_some(value))
}

/// Who asks, by a form of OAuth 2.0: a service account with what it signed, or a person's tool.
fn whom(form: &str) -> Option<String> {
    if let Some(token) = field(form, "refresh_token") {
        return (token == REFRESH_TOKEN).then(|| token.to_owned());
    }
    let mut claims = field(form, "assertion")?
        .split('.')
        .nth(1)?
        .replace('-', "+")
        .replace('_', "/");
    while !claims.len().is_multiple_of(4) {
        claims.push('=');
    }
    let claims: Value = serde_json::from_slice(&from_base64(&claims).ok()?).ok()?;
    (claims["iss"] == ACCOUNT).then(|| ACCOUNT.to_owned())
}
