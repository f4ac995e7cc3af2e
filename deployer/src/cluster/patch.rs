//! A patch whose warnings are read: webhooks say there what they did.

use http_body_util::BodyExt as _;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use serde::Serialize;

use super::{Cluster, Kind};

impl Cluster {
    /// Patches an object; what it became, and what was said to it, a line each.
    pub(crate) async fn patch<P: Serialize + std::fmt::Debug>(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<(DynamicObject, Vec<String>), kube::Error> {
        let api = self.api(kind, namespace);
        let request = Request::new(api.resource_url()).patch(name, params, patch);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let answer = self.client().send(request.map(Body::from)).await?;
        let (head, body) = answer.into_parts();
        let warnings = head.headers.get_all("warning").iter();
        let said: Vec<String> = warnings
            .filter_map(|line| warning(&String::from_utf8_lossy(line.as_bytes())))
            .collect();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            let status = serde_json::from_slice::<Status>(&body).unwrap_or_default();
            let status = Status {
                code: head.status.as_u16(),
                ..status
            };
            return Err(kube::Error::Api(Box::new(status)));
        }
        let object = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        Ok((object, said))
    }
}

/// The text of a `Warning` header: `299 - "text"`.
fn warning(header: &str) -> Option<String> {
    let quoted = header.splitn(3, ' ').nth(2)?.trim();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_header_is_read_as_kubectl_shows_it() {
        assert_eq!(
            warning(r#"299 - "tidewaiter: label team = \"a\": said so""#).as_deref(),
            Some(r#"tidewaiter: label team = "a": said so"#)
        );
        assert_eq!(warning("nonsense"), None);
    }
}
