//! What of Microsoft's token service a service principal meets: where its tenant's tokens are given out, and a token for its secret.
//! (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.) Azurite looks at a token's claims, and not at its signature.

use jiff::Timestamp;
use serde_json::{Value, json};
use tidewaiter_ground::tls::base64;

/// Where it is.
pub(crate) const HOST: &str = "login.microsoftonline.com";
/// The principal that it knows.
pub(crate) const TENANT: &str = "6f1c2d5e-0d4b-4c7a-9b57-3e1f0a2b4c6d";
pub(crate) const CLIENT: &str = "0b9a8c7d-6e5f-4a3b-8c1d-2e3f4a5b6c7d";
pub(crate) const SECRET: &str = "of-the-principal";

/// The answer to a path, and to whom a token was given; none, where it knows neither.
pub(crate) fn answer(path: &str, field: impl Fn(&str) -> Option<String>) -> Option<(Value, Option<String>)> {
    let tenant = format!("https://{HOST}/{TENANT}");
    if path.contains("/discovery/instance") {
        let network = json!({"preferred_network": HOST, "preferred_cache": HOST, "aliases": [HOST]});
        let found = format!("{tenant}/v2.0/.well-known/openid-configuration");
        return Some((json!({"tenant_discovery_endpoint": found, "metadata": [network]}), None));
    }
    if path.contains("/.well-known/openid-configuration") {
        let configuration = json!({
            "authorization_endpoint": format!("{tenant}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{tenant}/oauth2/v2.0/token"),
            "issuer": format!("{tenant}/v2.0"),
        });
        return Some((configuration, None));
    }
    let is_known = path.starts_with(&format!("/{TENANT}/oauth2/"))
        && field("client_id").as_deref() == Some(CLIENT)
        && field("client_secret").as_deref() == Some(SECRET);
    is_known.then(|| {
        let given = json!({"token_type": "Bearer", "expires_in": 3600, "access_token": token()});
        (given, Some(CLIENT.to_owned()))
    })
}

/// To whom it doesn't know (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).
pub(crate) fn refusal() -> Value {
    json!({
        "error": "invalid_client",
        "error_description": "AADSTS7000215: Invalid client secret provided. Trace ID: 1 Correlation ID: 2 Timestamp: 3",
        "error_codes": [7_000_215],
    })
}

fn token() -> String {
    let now = Timestamp::now().as_second();
    let claims = json!({
        "aud": "https://storage.azure.com", "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": now, "nbf": now - 60, "exp": now + 3600, "appid": CLIENT, "tid": TENANT,
    });
    let part = |value: &Value| {
        let text = base64(value.to_string().as_bytes());
        text.trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    format!(
        "{}.{}.{}",
        part(&json!({"alg": "RS256", "typ": "JWT"})),
        part(&claims),
        part(&json!("signed"))
    )
}
