//! A client of the OCI distribution API: manifests, blobs and referrers, each read with a bound and checked against its digest.
//!
//! `oci-client` is not used, since it reads manifests and lists of referrers of any size into memory, and takes a token server's refusal for no need of
//! credentials.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use crate::auth::{self, Passes};
use crate::credentials::{Credentials, DOCKER_HUB};
use crate::http::{Clients, Expected, body, good};
use crate::manifest::{Descriptor, INDEX, Index, MANIFESTS};
use crate::settings::{DOCUMENT, Host, Limits, Progress, Watch, nobody};
use crate::{Digest, Error, Reference};

/// Pulls from and pushes to registries.
#[derive(Clone)]
pub struct Registry {
    clients: Arc<Clients>,
    credentials: Credentials,
    passes: Arc<Passes>,
}

/// A repository at the place where it is asked for: at its registry, or at a mirror of it.
#[derive(Clone)]
pub(crate) struct Place {
    /// Host with port.
    pub(crate) host: String,
    repository: String,
    resolves_tags: bool,
}

/// What is to be done with a repository, as tokens are asked for.
#[derive(Clone, Copy)]
enum Action {
    Pull,
    Push,
}

/// A request that can be made twice: before and after somebody is let in.
#[derive(Default)]
struct Request {
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Registry {
    /// With these ways, and these accounts.
    ///
    /// # Errors
    /// A CA bundle without certificates, or a host that is listed twice.
    pub fn new(hosts: Vec<Host>, credentials: Credentials, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            clients: Arc::new(Clients::new(hosts, limits)?),
            credentials,
            passes: Arc::default(),
        })
    }

    /// The same ways, with other accounts, which are asked for anew.
    #[must_use]
    pub fn with(&self, credentials: Credentials) -> Self {
        Self {
            clients: Arc::clone(&self.clients),
            credentials,
            passes: Arc::default(),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.clients.limits
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The registry itself.
    pub(crate) fn home(reference: &Reference) -> Place {
        let host = match reference.registry() {
            "docker.io" | "index.docker.io" => DOCKER_HUB,
            host => host,
        };
        Place {
            host: host.to_owned(),
            repository: reference.repository().to_owned(),
            resolves_tags: true,
        }
    }

    /// The mirrors, and then the registry itself.
    pub(crate) fn places(&self, reference: &Reference) -> Vec<Place> {
        let mirrors = self
            .clients
            .settings(reference.registry())
            .map(|host| host.mirrors.as_slice());
        let mut places: Vec<Place> = mirrors
            .unwrap_or_default()
            .iter()
            .map(|mirror| {
                let (host, prefix) = mirror.at.split_once('/').unwrap_or((&mirror.at, ""));
                let prefix = prefix.trim_matches('/');
                let between = if prefix.is_empty() { "" } else { "/" };
                Place {
                    host: host.to_owned(),
                    repository: format!("{prefix}{between}{}", reference.repository()),
                    resolves_tags: mirror.resolves_tags,
                }
            })
            .collect();
        places.push(Self::home(reference));
        places
    }

    /// The manifest's digest that a tag has now, by a request that moves no content; none where the registry doesn't say.
    pub(crate) async fn peek(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let accept = accepting(MANIFESTS);
        let accept = &accept;
        self.anywhere(reference, true, |place| async move {
            let path = format!("manifests/{}", reference.version());
            let response = self.send(&place, Action::Pull, Method::HEAD, &path, accept).await?;
            let response = good(&place.host, &reference.to_string(), response).await?;
            let digest = response.headers().get("docker-content-digest");
            Ok(digest.and_then(|digest| digest.to_str().ok()?.parse().ok()))
        })
        .await
    }

    /// A manifest as it is, and its digest. Where the reference has a digest, it is that one.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<(Digest, Bytes), Error> {
        let accept = accepting(MANIFESTS);
        let (accept, by_tag) = (&accept, reference.digest().is_none());
        self.anywhere(reference, by_tag, |place| async move {
            let path = format!("manifests/{}", reference.version());
            let response = self.send(&place, Action::Pull, Method::GET, &path, accept).await?;
            let what = reference.to_string();
            let response = good(&place.host, &what, response).await?;
            let expected = Expected {
                size: None,
                digest: reference.digest(),
            };
            let manifest = body(&place.host, &what, response, DOCUMENT, expected, &nobody).await?;
            Ok((Digest::of(&manifest), manifest))
        })
        .await
    }

    /// A blob of a repository, checked against its descriptor.
    pub(crate) async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
        watch: Watch<'_>,
    ) -> Result<Bytes, Error> {
        let what = format!("the layer {} of {reference}", descriptor.digest);
        if descriptor.size > limit {
            return Err(Error::TooLarge { what, limit });
        }
        let what = &what;
        self.anywhere(reference, false, |place| async move {
            let path = format!("blobs/{}", descriptor.digest);
            let response = self
                .send(&place, Action::Pull, Method::GET, &path, &Request::default())
                .await?;
            let response = good(&place.host, what, response).await?;
            let expected = Expected {
                size: Some(descriptor.size),
                digest: Some(&descriptor.digest),
            };
            body(&place.host, what, response, limit, expected, watch).await
        })
        .await
    }

    /// What refers to a manifest: by the API for it, else by the tag that stands in for it. The registry itself is asked first, since a mirror may lack what
    /// was signed since.
    pub(crate) async fn referrers(&self, reference: &Reference, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let mut passing = None;
        for place in self.places(reference).iter().rev() {
            match self.referrers_at(place, reference, subject).await {
                Err(error) if error.is_passing() => passing = passing.or(Some(error)),
                said => return said,
            }
        }
        passing.map_or(Ok(Vec::new()), Err)
    }

    async fn referrers_at(
        &self,
        place: &Place,
        reference: &Reference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let accept = accepting(INDEX);
        let what = format!("the referrers of {reference}");
        for path in [
            format!("referrers/{subject}"),
            format!("manifests/{}", stand_in(subject)),
        ] {
            let response = self.send(place, Action::Pull, Method::GET, &path, &accept).await?;
            // A registry that doesn't know the API may say so in other ways than by 404.
            if matches!(
                response.status(),
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST
            ) {
                continue;
            }
            let response = good(&place.host, &what, response).await?;
            let text = body(&place.host, &what, response, DOCUMENT, Expected::default(), &nobody).await?;
            let index: Index = serde_json::from_slice(&text)
                .map_err(|error| Error::NotAPolicy(format!("{what}: {} answers with no index: {error}", place.host)))?;
            return Ok(index.manifests);
        }
        Ok(Vec::new())
    }

    /// Brings a blob there, unless it is there.
    pub(crate) async fn push_blob(
        &self,
        reference: &Reference,
        content: &Bytes,
        watch: Watch<'_>,
    ) -> Result<Digest, Error> {
        let place = Self::home(reference);
        let digest = Digest::of(content);
        let size = content.len() as u64;
        watch(Progress::Pushing(size));
        let path = format!("blobs/{digest}");
        let there = self
            .send(&place, Action::Push, Method::HEAD, &path, &Request::default())
            .await?;
        if there.status().is_success() {
            watch(Progress::Pushed(size));
            return Ok(digest);
        }
        let what = format!("an upload to {}/{}", place.host, place.repository);
        let response = self
            .send(
                &place,
                Action::Push,
                Method::POST,
                "blobs/uploads/",
                &sending("application/octet-stream", Bytes::new()),
            )
            .await?;
        let response = good(&place.host, &what, response).await?;
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        let mut url = location
            .and_then(|location| response.url().join(location).ok())
            .ok_or_else(|| Error::Refused {
                host: place.host.clone(),
                what: what.clone(),
                reason: "it doesn't say where to".to_owned(),
            })?;
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let response = self
            .send_to(
                &place,
                Action::Push,
                Method::PUT,
                url,
                &sending("application/octet-stream", content.clone()),
            )
            .await?;
        good(&place.host, &what, response).await?;
        watch(Progress::Pushed(size));
        Ok(digest)
    }

    /// Puts a manifest there, under the reference's tag or its digest. Whether the registry took note of its subject.
    pub(crate) async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        manifest: Bytes,
    ) -> Result<bool, Error> {
        let place = Self::home(reference);
        let path = format!("manifests/{}", reference.version());
        let response = self
            .send(&place, Action::Push, Method::PUT, &path, &sending(media_type, manifest))
            .await?;
        let response = good(&place.host, &format!("the manifest of {reference}"), response).await?;
        Ok(response.headers().contains_key("oci-subject"))
    }

    /// Asks one place after the other, until one has it. What is told is what the registry itself says; where that is away, what a mirror says.
    async fn anywhere<T, F>(
        &self,
        reference: &Reference,
        by_tag: bool,
        // Not an `AsyncFn`: the compiler can't see that what comes of one may go from thread to thread.
        ask: impl Fn(Place) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut places = self.places(reference);
        places.retain(|place| place.resolves_tags || !by_tag);
        let mut said: Option<Error> = None;
        for place in places {
            match ask(place).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_passing() && said.as_ref().is_some_and(|said| !said.is_passing()) => {}
                Err(error) => said = Some(error),
            }
        }
        Err(said.unwrap_or_else(|| Error::Settings(format!("{reference}: there is nobody to ask"))))
    }

    fn base(&self, place: &Place) -> Result<Url, Error> {
        let base = format!("{}://{}/", self.clients.scheme(&place.host), place.host);
        Url::parse(&base).map_err(|_| Error::Reference(format!("`{}` is no host", place.host)))
    }

    async fn send(
        &self,
        place: &Place,
        action: Action,
        method: Method,
        path: &str,
        request: &Request,
    ) -> Result<Response, Error> {
        let mut url = self.base(place)?;
        url.set_path(&format!("/v2/{}/{path}", place.repository));
        self.send_to(place, action, method, url, request).await
    }

    /// Sends what the registry asks for to be let in only to the registry itself, and not to where it has uploads sent.
    async fn send_to(
        &self,
        place: &Place,
        action: Action,
        method: Method,
        url: Url,
        request: &Request,
    ) -> Result<Response, Error> {
        let client = self.clients.of(&place.host)?;
        let at_home = self.base(place)?.origin() == url.origin();
        let actions = match action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", place.repository);
        let key = format!("{} {scope}", place.host);
        let send = async |pass| {
            let mut sent = client
                .request(method.clone(), url.clone())
                .headers(request.headers.clone());
            if let Some(body) = &request.body {
                sent = sent.header(CONTENT_LENGTH, body.len()).body(body.clone());
            }
            if let Some(pass) = pass {
                sent = sent.header(AUTHORIZATION, pass);
            }
            sent.send().await.map_err(|error| Error::no_answer(&place.host, &error))
        };
        if !at_home {
            return send(None).await;
        }
        let response = send(self.passes.of(&key).await).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let login = self.credentials.of(&place.host, &place.repository);
        match auth::answer(&self.clients, &place.host, &scope, response.headers(), login).await? {
            Some(pass) => {
                let header = pass.header.clone();
                self.passes.keep(key, pass).await;
                send(Some(header)).await
            }
            None => Ok(response),
        }
    }
}

/// The tag under which a registry without the referrers API has them.
pub(crate) fn stand_in(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn accepting(types: &str) -> Request {
    Request {
        headers: header(ACCEPT, types),
        body: None,
    }
}

fn sending(media_type: &str, body: Bytes) -> Request {
    Request {
        headers: header(CONTENT_TYPE, media_type),
        body: Some(body),
    }
}

fn header(name: reqwest::header::HeaderName, value: &str) -> HeaderMap {
    value
        .parse()
        .map(|value| HeaderMap::from_iter([(name, value)]))
        .unwrap_or_default()
}
