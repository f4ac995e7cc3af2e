//! What unit tests have in the place of a cluster.

use std::sync::LazyLock;

use async_trait::async_trait;
use tidewaiter_world::{AccountFacts, ClusterReader, Labels, SecretFacts};

/// Where the policies are compiled once for all tests of this program.
pub(crate) static COMPILED: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder can be made"));

/// An API server that has these labels for every namespace, live and in a watch, and nothing else.
#[derive(Clone, Default)]
pub(crate) struct ApiServer {
    /// None: it refuses to say.
    pub(crate) live: Option<Labels>,
    pub(crate) watched: Option<Labels>,
    /// It never says which are live.
    pub(crate) hung: bool,
}

#[async_trait]
impl ClusterReader for ApiServer {
    async fn service_account(&self, _: &str, _: &str) -> Result<Option<AccountFacts>, String> {
        Ok(None)
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<SecretFacts>, String> {
        Ok(None)
    }

    async fn namespace(&self, _: &str) -> Result<Option<Labels>, String> {
        if self.hung {
            std::future::pending::<()>().await;
        }
        self.live.clone().map(Some).ok_or_else(|| "refused".to_owned())
    }

    fn watched_namespace(&self, _: &str) -> Option<Labels> {
        self.watched.clone()
    }

    async fn object(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    async fn objects(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
