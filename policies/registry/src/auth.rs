//! How a registry lets somebody in: Basic, or a token of the server that it names (the distribution specification's "token authentication").

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::Error;
use crate::credentials::Login;
use crate::http::{Clients, Expected, body, good, host_of};
use crate::settings::{TOKEN, nobody};

/// Where a token server doesn't say how long its token lasts, the specification has it last for a minute.
const LIFETIME: u64 = 60;
/// A token is not used in its last seconds.
const MARGIN: u64 = 10;

/// Where somebody was let in, and with what header, by registry, repository and action.
#[derive(Default)]
pub(crate) struct Passes(Mutex<HashMap<String, (HeaderValue, Option<Instant>)>>);

impl Passes {
    pub(crate) async fn of(&self, scope: &str) -> Option<HeaderValue> {
        let passes = self.0.lock().await;
        let (pass, until) = passes.get(scope)?;
        until.is_none_or(|until| Instant::now() < until).then(|| pass.clone())
    }

    pub(crate) async fn keep(&self, scope: String, pass: Pass) {
        self.0.lock().await.insert(scope, (pass.header, pass.until));
    }
}

/// What opens a registry, and how long; none for as long as the password holds.
pub(crate) struct Pass {
    pub(crate) header: HeaderValue,
    until: Option<Instant>,
}

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Answers the challenge of a registry that said 401. None where there is nothing to answer it with.
pub(crate) async fn answer(
    clients: &Clients,
    registry: &str,
    scope: &str,
    challenge: &HeaderMap,
    login: Option<&Login>,
) -> Result<Option<Pass>, Error> {
    match read(challenge) {
        None => Ok(None),
        Some(Challenge::Basic) => Ok(match login {
            Some(Login::Password { user, password }) => Some(Pass {
                header: basic(user, password),
                until: None,
            }),
            Some(Login::Identity(_)) | None => None,
        }),
        Some(Challenge::Bearer { realm, service }) => {
            token(clients, registry, scope, &realm, service, login).await.map(Some)
        }
    }
}

async fn token(
    clients: &Clients,
    registry: &str,
    scope: &str,
    realm: &str,
    service: Option<String>,
    login: Option<&Login>,
) -> Result<Pass, Error> {
    let refused = |reason: String| Error::Refused {
        host: registry.to_owned(),
        what: scope.to_owned(),
        reason,
    };
    let mut url = Url::parse(realm).map_err(|_| refused(format!("it names a token server that is no URL: {realm}")))?;
    let host = host_of(&url);
    // A password isn't sent in the clear because a registry says so.
    if url.scheme() != "https" && !(url.scheme() == "http" && clients.scheme(&host) == "http") {
        return Err(refused(format!(
            "its token server {host} doesn't speak https; where that is meant, list it as a host with plainHttp"
        )));
    }
    let client = clients.of(&host)?;
    let request = match login {
        // OAuth 2: a refresh token is only taken in a body.
        Some(Login::Identity(token)) => {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.as_deref().unwrap_or_default())
                .append_pair("scope", scope)
                .append_pair("client_id", "tidewaiter")
                .append_pair("refresh_token", token)
                .finish();
            client
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form)
        }
        other => {
            let mut query = url.query_pairs_mut();
            query.append_pair("scope", scope);
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            drop(query);
            let request = client.get(url);
            match other {
                Some(Login::Password { user, password }) => request.header("authorization", basic(user, password)),
                _ => request,
            }
        }
    };
    let response = request.send().await.map_err(|error| Error::no_answer(&host, &error))?;
    let what = format!("a token for {scope}");
    let response = good(&host, &what, response).await?;
    let text = body(&host, &what, response, TOKEN, Expected::default(), &nobody).await?;
    let given: Given = serde_json::from_slice(&text).map_err(|_| refused(format!("{host} answers with no token")))?;
    let header = given.token.or(given.access_token).and_then(|token| {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        Some(header)
    });
    let lifetime = given.expires_in.unwrap_or(LIFETIME).clamp(MARGIN, 86_400);
    Ok(Pass {
        header: header.ok_or_else(|| refused(format!("{host} answers with no token")))?,
        until: Some(Instant::now() + Duration::from_secs(lifetime - MARGIN)),
    })
}

fn basic(user: &str, password: &str) -> HeaderValue {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut header =
        HeaderValue::from_str(&format!("Basic {pair}")).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    header.set_sensitive(true);
    header
}

/// The challenge that can be answered; Bearer before Basic.
fn read(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let challenges = http_auth::parse_challenges(value.to_str().ok()?).unwrap_or_default();
        for challenge in challenges {
            let parameter = |name: &str| {
                let mut parameters = challenge.params.iter();
                let (_, value) = parameters.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
                Some(value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: parameter("service"),
                    });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_that_can_be_answered_is_found() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("registry".into()),
        };
        let text = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull""#;
        for (values, expected) in [
            (vec![text], Some(bearer)),
            (vec![r#"Basic realm="x""#], Some(Challenge::Basic)),
            (vec!["Negotiate"], None),
            (vec!["Bearer"], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            assert_eq!(read(&headers), expected);
        }
    }
}
