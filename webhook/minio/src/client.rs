//! The client of MinIO's admin API, as far as access keys go.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;
use reqwest::redirect::Policy as Redirects;
use reqwest::{Method, Response, StatusCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use url::Url;

use crate::answer::{Asked, is_html};
use crate::encryption;
use crate::error::{Error, Right};
use crate::policy::Policy;

/// The shortest time that MinIO lets an access key live, from when it is asked for (`minServiceAccountExpiry` in its `cmd/iam-store.go`).
pub const SHORTEST: SignedDuration = SignedDuration::from_mins(15);
/// The longest (`maxServiceAccountExpiry`).
pub const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The longest name, in bytes.
const NAME: usize = 32;
/// The longest description, in bytes.
const DESCRIPTION: usize = 256;
/// The longest ID and secret of an access key that MinIO takes, in characters (`accessKeyMaxLen` and `secretKeyMaxLen` in its `internal/auth`).
const ID: usize = 20;
const SECRET: usize = 40;
/// Of the ID twelve characters stay to be random.
const BEGINNING: usize = 8;

/// MinIO derives two keys for one call, which takes a slow machine a while.
const CALL: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// An account in a listing has some 300 bytes.
const ANSWER: usize = 16 * 1024 * 1024;
/// More of an error's body than this is not read: the code stands at its beginning.
const ERROR_ANSWER: usize = 16 * 1024;

/// How often an access key that was deleted is tried to be made again, and the time between two.
const ADDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// A key takes 64 MiB to derive, so there is one at a time in the whole process.
static DERIVING: Semaphore = Semaphore::const_new(1);

/// An access key with its secret. Can't be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    id: String,
    secret: String,
}

impl AccessKey {
    /// A key that is there already.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
        }
    }

    /// A new one that nobody can guess, whose ID begins with `beginning`: up to 8 letters and digits, by which to know it again.
    ///
    /// # Errors
    /// [`Error::Request`], where the beginning doesn't fit, and [`Error::Settings`], where the machine has no randomness.
    pub fn random(beginning: &str) -> Result<Self, Error> {
        if beginning.len() > BEGINNING || !beginning.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::Request(format!(
                "`{beginning}` can't be how its ID begins: up to {BEGINNING} letters and digits can"
            )));
        }
        Ok(Self {
            id: format!("{beginning}{}", letters(ID - beginning.len())?),
            secret: letters(SECRET)?,
        })
    }

    /// What names it: `AWS_ACCESS_KEY_ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What proves it: `AWS_SECRET_ACCESS_KEY`.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Whose certificates are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The machine's own CAs.
    System,
    /// Nobody's: the store speaks plain HTTP, and a machine without any CA will do.
    Nobody,
    /// Everybody's: the admin switched the check off.
    Anybody,
    /// These CAs, in PEM form.
    Bundle(String),
}

/// An access key to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewAccount<'a> {
    /// The key itself: see [`AccessKey::random`].
    pub key: &'a AccessKey,
    /// At most 32 bytes; begins with a letter. Need not be the only one of its name.
    pub name: &'a str,
    /// At most 256 bytes.
    pub description: &'a str,
    /// What it may read.
    pub policy: &'a Policy,
    /// When it ends: [`SHORTEST`] to [`LONGEST`] from now. MinIO drops parts of a second.
    pub expires: Timestamp,
}

/// What is changed about an access key.
///
/// The policy has to be said each time, since MinIO takes a change without one for "none", and gives the key all rights of its user. Where it changed
/// meanwhile, the last change counts.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// What it may read from now on.
    pub policy: &'a Policy,
    /// When it ends, where that changes.
    pub expires: Option<Timestamp>,
    /// Whether it works, where that changes. A disabled key can be enabled again.
    pub enabled: Option<bool>,
}

impl<'a> Change<'a> {
    /// What it may read, and nothing else.
    pub fn policy(policy: &'a Policy) -> Self {
        Self {
            policy,
            expires: None,
            enabled: None,
        }
    }
}

/// An access key as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its [`AccessKey::id`].
    pub access_key: String,
    /// The user whose key it is.
    pub user: String,
    /// Its name, if it has one.
    pub name: String,
    /// Its description, if it has one.
    pub description: String,
    /// Whether it works, as far as it was not disabled.
    pub enabled: bool,
    /// Whether it may do all that its user may.
    pub unrestricted: bool,
    /// When it ends, if ever.
    pub expires: Option<Timestamp>,
}

/// An access key, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// As in a listing.
    pub account: Account,
    /// Its policy; where it is unrestricted, that of its user. See [`Policy::is`].
    pub policy: serde_json::Value,
}

/// The admin API of one MinIO, asked with one user's key.
#[derive(Clone)]
pub struct Admin {
    endpoint: Url,
    host: String,
    region: String,
    credential: Arc<AwsCredential>,
    client: reqwest::Client,
    now: fn() -> Timestamp,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("host", &self.host)
            .field("access_key", &self.credential.key_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AddRequest<'a> {
    access_key: &'a str,
    secret_key: &'a str,
    policy: &'a RawValue,
    name: &'a str,
    description: &'a str,
    expiration: String,
}

#[allow(clippy::struct_field_names, reason = "MinIO's own names")]
#[derive(Serialize)]
struct UpdateRequest<'a> {
    #[serde(rename = "newPolicy")]
    policy: &'a RawValue,
    #[serde(rename = "newExpiration", skip_serializing_if = "Option::is_none")]
    expiration: Option<String>,
    #[serde(rename = "newStatus", skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountAnswer {
    #[serde(default)]
    access_key: String,
    parent_user: String,
    account_status: String,
    implied_policy: bool,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    expiration: Option<String>,
}

#[derive(Deserialize)]
struct InfoAnswer {
    #[serde(flatten)]
    account: AccountAnswer,
    policy: String,
}

#[derive(Deserialize)]
struct ListAnswer {
    /// `null` where there are none.
    accounts: Option<Vec<AccountAnswer>>,
}

impl AccountAnswer {
    fn read(self) -> Result<Account, jiff::Error> {
        let expires = self.expiration.map(|text| text.parse::<Timestamp>()).transpose()?;
        Ok(Account {
            access_key: self.access_key,
            user: self.parent_user,
            name: self.name,
            description: self.description,
            enabled: matches!(self.account_status.as_str(), "on" | "enabled"),
            unrestricted: self.implied_policy,
            // Go's zero time and Unix's both stand for "never".
            expires: expires.filter(|expires| *expires > Timestamp::UNIX_EPOCH),
        })
    }
}

impl Admin {
    /// A client. `endpoint` is the one that S3 is spoken at, `region` MinIO's own where it has one.
    ///
    /// # Errors
    /// [`Error::Settings`], where one of these can't be used.
    pub fn new(endpoint: Url, region: Option<&str>, key: AccessKey, trust: &Trust) -> Result<Self, Error> {
        if !matches!(endpoint.scheme(), "http" | "https") {
            return Err(Error::Settings(format!(
                "the endpoint {} is not http:// or https://",
                shown(&endpoint)
            )));
        }
        let region = region.unwrap_or("us-east-1");
        // Both are written into a header.
        let printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable(&key.id) || key.secret.is_empty() {
            return Err(Error::Settings(
                "the admin's access key or secret key is empty or has a blank in it".to_owned(),
            ));
        }
        if !printable(region) {
            return Err(Error::Settings("the region is empty or has a blank in it".to_owned()));
        }
        Ok(Self {
            host: shown(&endpoint),
            endpoint,
            region: region.to_owned(),
            credential: Arc::new(AwsCredential {
                key_id: key.id,
                secret_key: key.secret,
                token: None,
            }),
            client: http_client(trust)?,
            now: Timestamp::now,
        })
    }

    /// Holds ends of keys against this clock, by which the caller reckoned them, and not against the machine's own.
    #[must_use]
    pub fn by_clock(self, now: fn() -> Timestamp) -> Self {
        Self { now, ..self }
    }

    /// Makes an access key. One of its ID that is there already stays as it is, and is [`Error::Taken`].
    pub async fn add(&self, account: &NewAccount<'_>) -> Result<(), Error> {
        let body = self.add_body(account).await?;
        self.add_encrypted(account.key.id(), body).await
    }

    /// Makes an access key anew, with the same ID and secret, where [`Self::update`] is [`Error::Forbidden`]: to change a key takes a right that opens every key
    /// of MinIO, root's too, and to delete and make one's own takes none. For as long as one call takes there is no such key, and what is asked with it in that
    /// time is refused. Where it fails in between it is gone until it is made again.
    pub async fn replace(&self, account: &NewAccount<'_>) -> Result<(), Error> {
        let id = account.key.id();
        // All that takes time, or can be wrong with it, comes before the key is away.
        let body = self.add_body(account).await?;
        let (admin, id) = (self.clone(), id.to_owned());
        // Whoever waits for it may give up: what was begun is ended all the same.
        let done = tokio::spawn(async move { admin.delete_and_add(&id, body).await });
        done.await.map_err(|_| self.unreadable())?
    }

    async fn delete_and_add(&self, id: &str, body: Bytes) -> Result<(), Error> {
        let was_there = self.delete(id).await?;
        let mut attempt = 1;
        loop {
            let error = match self.add_encrypted(id, body.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = match &error {
                // Another server of the same MinIO may not have heard yet that it is gone.
                Error::Taken { .. } => was_there,
                error => error.is_temporary(),
            };
            if !again || attempt == ADDS {
                let foreign = matches!(error, Error::Taken { .. }) && !was_there && self.is_foreign(id).await?;
                return Err(if foreign {
                    Error::Foreign {
                        host: self.host.clone(),
                        access_key: id.to_owned(),
                    }
                } else {
                    error
                });
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether a key that is there is another user's. Everybody may look at their own.
    async fn is_foreign(&self, access_key: &str) -> Result<bool, Error> {
        match self.info(access_key).await {
            Ok(_) | Err(Error::NoAccount { .. }) => Ok(false),
            Err(Error::Forbidden { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn add_body(&self, account: &NewAccount<'_>) -> Result<Bytes, Error> {
        check_name(account.name)?;
        check_description(account.description)?;
        let request = AddRequest {
            access_key: &account.key.id,
            secret_key: &account.key.secret,
            policy: raw(account.policy)?,
            name: account.name,
            description: account.description,
            expiration: expiration(account.expires, (self.now)())?,
        };
        self.encrypt(&request).await
    }

    async fn add_encrypted(&self, access_key: &str, body: Bytes) -> Result<(), Error> {
        // The answer holds the key once more.
        let asked = self.asked(Right::Create, access_key);
        self.send(asked, Method::PUT, "add-service-account", body).await?;
        Ok(())
    }

    /// Changes an access key. Takes effect at once.
    pub async fn update(&self, access_key: &str, change: &Change<'_>) -> Result<(), Error> {
        let request = UpdateRequest {
            policy: raw(change.policy)?,
            expiration: change
                .expires
                .map(|expires| expiration(expires, (self.now)()))
                .transpose()?,
            status: change.enabled.map(|enabled| if enabled { "on" } else { "off" }),
        };
        let asked = self.asked(Right::Update, access_key);
        self.call(asked, Method::POST, "update-service-account", Some(&request))
            .await?;
        Ok(())
    }

    /// Looks at an access key.
    pub async fn info(&self, access_key: &str) -> Result<Info, Error> {
        let asked = self.asked(Right::List, access_key);
        let answer = self
            .call(asked, Method::GET, "info-service-account", None::<&()>)
            .await?;
        let InfoAnswer { account, policy } = self.read(&answer).await?;
        let mut account = account.read().map_err(|_| self.unreadable())?;
        access_key.clone_into(&mut account.access_key);
        let policy = serde_json::from_str(&policy).map_err(|_| self.unreadable())?;
        Ok(Info { account, policy })
    }

    /// The access keys of the user whose key this is, in the order of their names. Those that have ended stay in it for a while.
    pub async fn list(&self) -> Result<Vec<Account>, Error> {
        let asked = self.asked(Right::List, "");
        let answer = self
            .call(asked, Method::GET, "list-service-accounts", None::<&()>)
            .await?;
        let ListAnswer { accounts } = self.read(&answer).await?;
        let mut accounts = accounts
            .unwrap_or_default()
            .into_iter()
            .map(AccountAnswer::read)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| self.unreadable())?;
        accounts.sort_unstable_by(|a, b| (&a.name, &a.access_key).cmp(&(&b.name, &b.access_key)));
        Ok(accounts)
    }

    /// Revokes an access key, at once. False where there was none of this name; that is also what MinIO says of another user's, if this one may not
    /// remove those.
    pub async fn delete(&self, access_key: &str) -> Result<bool, Error> {
        let asked = self.asked(Right::Remove, access_key);
        match self
            .call(asked, Method::DELETE, "delete-service-account", None::<&()>)
            .await
        {
            Ok(_) => Ok(true),
            Err(Error::NoAccount { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn asked<'a>(&'a self, right: Right, access_key: &'a str) -> Asked<'a> {
        Asked {
            host: &self.host,
            right,
            access_key,
        }
    }

    fn unreadable(&self) -> Error {
        Error::Unreadable {
            host: self.host.clone(),
        }
    }

    async fn call(
        &self,
        asked: Asked<'_>,
        method: Method,
        action: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, Error> {
        let body = match body {
            Some(body) => self.encrypt(body).await?,
            None => Bytes::new(),
        };
        self.send(asked, method, action, body).await
    }

    async fn send(&self, asked: Asked<'_>, method: Method, action: &str, body: Bytes) -> Result<Bytes, Error> {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Settings(format!("the endpoint {} is no web address", self.host)))?
            .pop_if_empty()
            .extend(["minio", "admin", "v3", action]);
        url.set_query(None);
        if !asked.access_key.is_empty() {
            url.query_pairs_mut().append_pair("accessKey", asked.access_key);
        }
        // MinIO answers what it was told to do with nothing, and what it was asked with a message.
        let wanted = match method {
            Method::POST | Method::DELETE => StatusCode::NO_CONTENT,
            _ => StatusCode::OK,
        };
        let request = self.sign(method, url, body)?;
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        if status == wanted && !is_html(&headers) {
            return self.body(response, ANSWER).await?.ok_or_else(|| self.unreadable());
        }
        if status.is_success() {
            return Err(asked.not_minio(status, &headers, None));
        }
        let body = self.body(response, ERROR_ANSWER).await?.unwrap_or_default();
        Err(asked.refused(status, &headers, &body))
    }

    fn sign(&self, method: Method, url: Url, body: Bytes) -> Result<reqwest::Request, Error> {
        let unusable = || Error::Settings(format!("requests to {} can't be signed", self.host));
        let mut signed = HttpRequest::new(body.clone().into());
        *signed.method_mut() = method.clone();
        *signed.uri_mut() = url.as_str().parse().map_err(|_| unusable())?;
        AwsAuthorizer::new(&self.credential, "s3", &self.region)
            .try_authorize(&mut signed, None)
            .map_err(|_| unusable())?;
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = std::mem::take(signed.headers_mut());
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }

    /// The whole body; none where it is longer than `limit`.
    async fn body(&self, mut response: Response, limit: usize) -> Result<Option<Bytes>, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > limit {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body.freeze()))
    }

    async fn encrypt(&self, body: &impl Serialize) -> Result<Bytes, Error> {
        let message = serde_json::to_vec(body).map_err(|_| self.unreadable())?;
        let encrypted = self.derive(move |secret| encryption::encrypt(secret, &message)).await?;
        Ok(encrypted.into())
    }

    async fn read<T: for<'de> Deserialize<'de>>(&self, answer: &Bytes) -> Result<T, Error> {
        let answer = answer.clone();
        let message = self.derive(move |secret| encryption::decrypt(secret, &answer)).await?;
        serde_json::from_slice(&message).map_err(|_| self.unreadable())
    }

    async fn derive<F>(&self, work: F) -> Result<Vec<u8>, Error>
    where
        F: FnOnce(&str) -> Result<Vec<u8>, encryption::Failed> + Send + 'static,
    {
        let credential = Arc::clone(&self.credential);
        // It is never closed.
        let permit = DERIVING.acquire().await.map_err(|_| self.unreadable())?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&credential.secret_key)
        });
        done.await
            .map_err(|_| self.unreadable())?
            .map_err(|_| self.unreadable())
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut innermost: &dyn StdError = error;
        let mut resolved = true;
        while let Some(source) = innermost.source() {
            innermost = source;
            // The resolver's error type is private to the HTTP client.
            resolved &= !innermost.to_string().contains("dns error");
        }
        let host = &self.host;
        let mut words = innermost.to_string();
        words.truncate(words.floor_char_boundary(120));
        Error::Unreachable(if error.is_timeout() {
            format!("{host} didn't answer in time")
        } else if !resolved {
            format!("the name {host} can't be resolved")
        } else if words.contains("UnknownIssuer") || words.contains("BadSignature") {
            format!("nobody we trust signed the certificate of {host}; set the backend's tls.caBundle")
        } else {
            format!("no answer of {host}: {words}")
        })
    }
}

/// Random letters and digits that are not taken for one another.
fn letters(count: usize) -> Result<String, Error> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut bytes = vec![0; count];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Settings("the machine has no random numbers".to_owned()))?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect())
}

fn raw(policy: &Policy) -> Result<&RawValue, Error> {
    serde_json::from_str(policy.as_json()).map_err(|_| Error::Request("the policy is no JSON".to_owned()))
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = name.len() <= NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fits {
        return Ok(());
    }
    Err(Error::Request(format!(
        "its name `{name}` has to begin with a letter and to have at most {NAME} letters, digits, `-` and `_`"
    )))
}

fn check_description(description: &str) -> Result<(), Error> {
    if description.len() <= DESCRIPTION {
        return Ok(());
    }
    Err(Error::Request(format!(
        "its description has more than {DESCRIPTION} bytes"
    )))
}

/// MinIO answers a time that is out of its bounds as if it had failed itself.
fn expiration(expires: Timestamp, now: Timestamp) -> Result<String, Error> {
    let left = expires.duration_since(now);
    if left < SHORTEST || left > LONGEST {
        return Err(Error::Request(format!(
            "it would end at {expires:.0}, which has to be 15 minutes to 365 days from now"
        )));
    }
    Ok(format!("{expires:.0}"))
}

/// The host that messages name.
fn shown(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "the store".to_owned(),
    }
}

fn http_client(trust: &Trust) -> Result<reqwest::Client, Error> {
    const NOT_PEM: &str = "the CA bundle holds no certificate in PEM form";
    // Without a default provider reqwest panics; where another part of the program installed one, that one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("tidewaiter/", env!("CARGO_PKG_VERSION")))
        .redirect(Redirects::none())
        .connect_timeout(CONNECT)
        .timeout(CALL)
        .pool_idle_timeout(Duration::from_secs(30));
    let builder = match trust {
        Trust::System => builder,
        Trust::Nobody => builder.tls_certs_only([]),
        Trust::Anybody => builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true),
        Trust::Bundle(pem) => {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|_| Error::Settings(NOT_PEM.to_owned()))?;
            if certificates.is_empty() {
                return Err(Error::Settings(NOT_PEM.to_owned()));
            }
            builder.tls_certs_only(certificates)
        }
    };
    builder.build().map_err(|error| {
        let mut innermost: &dyn StdError = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Error::Settings(format!("no TLS: {innermost}"))
    })
}
