//! Signing without a key of one's own: Fulcio certifies a key for ten minutes, for whom a token names, and a log and a time stamp say when it signed.

use reqwest::Client;
use serde::Deserialize;
use sigstore_sign::oidc::IdentityToken;
use sigstore_sign::trust_root::SigningConfig;
use sigstore_sign::{Error as SignError, SigningContext, SigningServices, SigstoreInstance};
use url::Url;

use super::{provider, statement};
use crate::http::{builder, built, host_of, trusting};
use crate::settings::{Limits, Watch};
use crate::{Digest, Error, Reference, Registry, Signed};

/// Somebody whom a token names, and the services that vouch for it.
pub struct Identified {
    token: IdentityToken,
    context: SigningContext,
}

impl Identified {
    /// `services` is a signing configuration as `cosign signing-config create` makes it; without one, those of Sigstore's public instance. `ca` are certificates
    /// in PEM form that they may be signed by, beside those that this machine trusts.
    ///
    /// # Errors
    /// A token that is none or has ended, and services that can't be used. Nothing is sent.
    pub fn new(token: &str, services: Option<&str>, ca: Option<&str>) -> Result<Self, Error> {
        provider::install();
        // What the parser says may quote the token.
        let token = IdentityToken::from_jwt(token.trim())
            .map_err(|_| Error::Settings("the identity token is no JWT with iss, sub, aud and exp".into()))?;
        if token.is_expired() {
            return Err(Error::Settings(format!(
                "the identity token of {} ended at {}; get a new one",
                token.identity(),
                token.expiration()
            )));
        }
        let services = match services {
            Some(json) => SigningConfig::from_json(json)
                .map_err(SignError::from)
                .and_then(|config| SigningServices::from_signing_config(&config)),
            None => SigningServices::from_embedded(SigstoreInstance::PublicGood),
        };
        let services = services.and_then(|services| services.validate().map(|()| services));
        let services =
            services.map_err(|error| Error::Settings(format!("the signing configuration can't be used: {error}")))?;
        let client = client(ca).map_err(Error::Settings)?;
        Ok(Self {
            token,
            context: SigningContext::new(services).with_http_client(client),
        })
    }

    /// The token that the machine has for what runs on it, where it has one: a job of GitHub's, GitLab's, `Buildkite`'s and others.
    ///
    /// # Errors
    /// A machine that should have one, and gives none.
    pub async fn ambient() -> Result<Option<String>, Error> {
        crate::http::have_provider();
        let token = IdentityToken::detect_ambient().await;
        let token =
            token.map_err(|error| Error::Settings(format!("this job may have an identity, but gets none: {error}")))?;
        Ok(token.map(|token| token.expose_secret().to_owned()))
    }

    /// As the certificate will name it, for most issuers: some, such as GitHub, have more to say.
    pub fn name(&self) -> String {
        format!("{} (issuer {})", self.token.identity(), self.token.issuer())
    }

    /// The log that will hold the signature, for all who may read it.
    pub fn log(&self) -> &str {
        self.context.services().rekor_url()
    }

    async fn bundle(&self, manifest: &Digest) -> Result<Vec<u8>, Error> {
        let signer = self.context.signer(self.token.clone());
        let bundle = signer.sign_raw_statement(&statement::statement(manifest)?).await;
        let bundle = bundle.map_err(|error| self.failed(error))?;
        let json = bundle
            .to_json()
            .map_err(|error| Error::Settings(format!("the signature can't be written: {error}")))?;
        Ok(json.into_bytes())
    }

    /// Which of the services said no.
    fn failed(&self, error: SignError) -> Error {
        let services = self.context.services();
        let (url, what, reason) = match error {
            SignError::Fulcio(error) => (
                services.fulcio_url(),
                format!("certificate for {}", self.name()),
                error.to_string(),
            ),
            SignError::Rekor(error) => (services.rekor_url(), "entry of its log".to_owned(), error.to_string()),
            SignError::Tsa(error) => (
                services.tsa_url().unwrap_or_default(),
                "time stamp".to_owned(),
                error.to_string(),
            ),
            other => return Error::Settings(format!("no signature can be made: {other}")),
        };
        Error::Uncertified {
            host: Url::parse(url).map_or_else(|_| url.to_owned(), |url| host_of(&url)),
            what,
            reason: told(&reason),
        }
    }
}

impl Registry {
    /// Signs what the reference names now, as [`Registry::sign`] does with a key.
    ///
    /// # Errors
    /// Where the policy isn't there, a service certifies nothing, or the registry takes nothing from us.
    pub async fn sign_as(
        &self,
        reference: &Reference,
        who: &Identified,
        created: &str,
        watch: Watch<'_>,
    ) -> Result<Signed, Error> {
        let manifest = self.signable(reference).await?;
        let bundle = who.bundle(&manifest).await?.into();
        self.attach(&reference.at(&manifest), bundle, created, watch).await
    }
}

fn client(ca: Option<&str>) -> Result<Client, String> {
    let limits = Limits::default();
    match ca {
        Some(ca) => trusting(ca, limits).map_err(|reason| format!("ca: {reason}")),
        None => built(builder(limits)),
    }
}

/// The services answer in JSON (`google.rpc.Status`), of which the message is for people.
fn told(reason: &str) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let status = reason.find('{').and_then(|at| {
        let status: Status = serde_json::from_str(reason[at..].trim()).ok()?;
        Some(format!("{}{}", &reason[..at], status.message))
    });
    status.unwrap_or_else(|| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_its_message() {
        let said = r#"Fulcio returned HTTP 400: failed to create signing certificate: {"code":3, "message":"There was an error processing the identity token", "details":[]}"#;
        assert_eq!(
            told(said),
            "Fulcio returned HTTP 400: failed to create signing certificate: There was an error processing the identity token"
        );
        assert_eq!(told("HTTP error: {"), "HTTP error: {");
    }

    #[test]
    fn a_token_that_has_ended_is_not_sent() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let claims = r#"{"iss": "https://token.example", "sub": "release", "aud": "sigstore", "exp": 1700000000, "iat": 1699999000}"#;
        let token = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(claims));
        let Err(error) = Identified::new(&token, None, None) else {
            panic!("it is taken");
        };
        assert_eq!(
            error.to_string(),
            "the identity token of release ended at 2023-11-14T22:13:20Z; get a new one"
        );
    }

    #[test]
    fn a_token_that_is_none_is_not_repeated() {
        let Err(error) = Identified::new("eyJzZWNyZXQ.eyJzZWNyZXQ", None, None) else {
            panic!("it is taken for a token");
        };
        assert_eq!(
            error.to_string(),
            "the identity token is no JWT with iss, sub, aud and exp"
        );
    }
}
