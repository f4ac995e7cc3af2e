//! Requests to the API server without a kubectl for each: many in a second, on connections that stay.

use std::time::Duration;

use anyhow::Result;
use reqwest::blocking::Client;
use reqwest::{Certificate, Method};
use serde_json::Value;

/// A client of the API server, as its administrator.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    server: String,
    token: String,
}

/// What the API server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The object, or a `Status` that says why there is none.
    pub body: Value,
    /// Warning lines.
    pub warnings: Vec<String>,
}

impl Answer {
    /// Whether the object was admitted.
    pub fn admitted(&self) -> bool {
        self.status < 300
    }

    /// Why it was not.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Api {
    /// A client that trusts one authority, PEM.
    pub(crate) fn new(server: &str, authority: &[u8], token: &str) -> Result<Self> {
        // Feature-unified builds of reqwest ask for the process's TLS provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(authority)?])
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            client,
            server: server.to_owned(),
            token: token.to_owned(),
        })
    }

    /// What would become of an InferenceService: every admission is asked, and nothing is stored.
    ///
    /// # Errors
    /// Where there is no answer; a refusal is one.
    pub fn would_create(&self, namespace: &str, service: &Value) -> Result<Answer> {
        let path = format!("{}?dryRun=All", services(namespace));
        self.send(Method::POST, &path, Some(service))
    }

    /// Creates an InferenceService.
    ///
    /// # Errors
    /// Where there is no answer; a refusal is one.
    pub fn create(&self, namespace: &str, service: &Value) -> Result<Answer> {
        self.send(Method::POST, &services(namespace), Some(service))
    }

    /// Creates a Namespace.
    ///
    /// # Errors
    /// Where there is no answer; a refusal is one.
    pub fn create_namespace(&self, namespace: &Value) -> Result<Answer> {
        self.send(Method::POST, "/api/v1/namespaces", Some(namespace))
    }

    /// Every `InferenceService` of a namespace, as a list.
    ///
    /// # Errors
    /// Where there is no answer; a refusal is one.
    pub fn services(&self, namespace: &str) -> Result<Answer> {
        self.send(Method::GET, &services(namespace), None)
    }

    /// What stands at a path, as JSON.
    ///
    /// # Errors
    /// Where there is no answer, or it is a refusal.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send(Method::GET, path, None)?;
        anyhow::ensure!(answer.status < 300, "GET {path}: {}", answer.message());
        Ok(answer.body)
    }

    /// Changes what stands at a path by a JSON merge patch, and gives back what it is then.
    ///
    /// # Errors
    /// Where there is no answer, or it is a refusal.
    pub fn change(&self, path: &str, change: &Value) -> Result<Value> {
        let answer = self.send(Method::PATCH, path, Some(change))?;
        anyhow::ensure!(answer.status < 300, "PATCH {path}: {}", answer.message());
        Ok(answer.body)
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let content = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.server))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", content).body(body.to_string());
        }
        let answer = request.send()?;
        let warnings = answer.headers().get_all("warning").iter();
        Ok(Answer {
            status: answer.status().as_u16(),
            warnings: warnings
                .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
                .collect(),
            body: serde_json::from_str(&answer.text()?)?,
        })
    }
}

fn services(namespace: &str) -> String {
    format!("/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices")
}
