//! From MLflow's names to the place where the model's files lie.

use serde_json::{Value, json};
use tidewaiter_core::uri::StorageUri;

use super::Error;
use super::tracking::{Artifacts, Client, Of, Said};
use super::words::{Source, Which};

/// URIs that may lead to each other.
const DEPTH: usize = 8;
/// Names that an error lists are read up to here.
const LISTED: &str = "200";

/// Where MLflow says that the files are.
pub(super) struct Resolved {
    pub(super) place: Place,
    /// What was found on the way: `version 3`, `run 4f…`.
    pub(super) steps: Vec<String>,
    /// How the server itself hands the files out.
    pub(super) artifacts: Option<Artifacts>,
}

/// A place that isn't MLflow's any more.
pub(super) enum Place {
    Store(StorageUri),
    /// Behind the proxy: below the server's artifact destination, which no route tells.
    Proxied(String),
    /// A path on the server's disk, or on this machine's.
    Disk(String),
}

/// Follows a source to its end.
pub(super) async fn resolve(client: &Client, source: &Source) -> Result<Resolved, Error> {
    let mut way = Way {
        client,
        steps: Vec::new(),
        of: None,
    };
    let mut current = source.clone();
    for _ in 0..DEPTH {
        current = match &current {
            Source::Registered { name, which } => way.registered(name, which).await?,
            Source::Logged { id } => way.logged(id).await?,
            Source::Run { id, path } => way.run(id, path).await?,
            Source::Proxied { host, path } => {
                if let Some(host) = host
                    && !client.is_host(host)
                {
                    return Err(Error::OtherHost {
                        asked: current.to_string(),
                        host: host.clone(),
                        server: client.server(),
                    });
                }
                let of = Of::Proxy { path: path.clone() };
                return Ok(way.end(Place::Proxied(path.clone()), Some(of)));
            }
            Source::Store(uri) => return Ok(way.end(Place::Store(uri.clone()), None)),
            Source::Local(path) => return Ok(way.end(Place::Disk(path.display().to_string()), None)),
        };
    }
    Err(Error::Circle {
        asked: source.to_string(),
    })
}

struct Way<'a> {
    client: &'a Client,
    steps: Vec<String>,
    of: Option<Of>,
}

impl Way<'_> {
    fn end(self, place: Place, of: Option<Of>) -> Resolved {
        let client = self.client.clone();
        Resolved {
            place,
            steps: self.steps,
            artifacts: of.or(self.of).map(|of| Artifacts { client, of }),
        }
    }

    /// The answer, or what there is no such of.
    fn known(&self, said: Said, what: &str, kind: &'static str, known: Vec<String>) -> Result<Value, Error> {
        said.map_err(|refusal| {
            if refusal.is_unknown() {
                Error::Unknown {
                    server: self.client.server(),
                    what: what.to_owned(),
                    kind,
                    known,
                }
            } else {
                self.client.failing(refusal.status, &refusal.message)
            }
        })
    }

    async fn registered(&mut self, name: &str, which: &Which) -> Result<Source, Error> {
        let version = match which {
            Which::Version(version) => version.to_string(),
            Which::Alias(alias) => {
                let said = self
                    .client
                    .get("registered-models/alias", &[("name", name), ("alias", alias)])
                    .await?;
                let known = if said.is_err() {
                    self.aliases(name).await?
                } else {
                    Vec::new()
                };
                let answer = self.known(said, &format!("alias `{alias}` of model {name}"), "aliases", known)?;
                self.word(&answer["model_version"]["version"], "model_version.version")?
            }
            Which::Latest | Which::Stage(_) => self.latest(name, which).await?,
        };
        self.steps.push(format!("version {version}"));
        let said = self
            .client
            .get(
                "model-versions/get-download-uri",
                &[("name", name), ("version", &version)],
            )
            .await?;
        let known = if said.is_err() {
            self.versions(name).await?
        } else {
            Vec::new()
        };
        let answer = self.known(said, &format!("version {version} of model {name}"), "versions", known)?;
        let uri = self.word(&answer["artifact_uri"], "artifact_uri")?;
        // The server lists the files of a run and of a logged model, but none of a version.
        self.of = Some(whose(&uri).unwrap_or(Of::Version {
            name: name.to_owned(),
            version,
        }));
        self.place(&uri)
    }

    async fn latest(&self, name: &str, which: &Which) -> Result<String, Error> {
        let mut query = vec![("name", name)];
        if let Which::Stage(stage) = which {
            query.push(("stages", stage));
        }
        let said = self.client.get("registered-models/get-latest-versions", &query).await?;
        // A stage that MLflow doesn't know is an invalid parameter to it.
        let stage_is_wrong = said
            .as_ref()
            .is_err_and(|refusal| matches!(which, Which::Stage(_)) && refusal.status == 400);
        let what = match which {
            Which::Stage(stage) => format!("version of model {name} in stage `{stage}`"),
            _ => format!("version of model {name}"),
        };
        let unknown = |kind, known| Error::Unknown {
            server: self.client.server(),
            what: what.clone(),
            kind,
            known,
        };
        if stage_is_wrong {
            return Err(unknown("versions", self.versions(name).await?));
        }
        if said.as_ref().is_err_and(super::tracking::Refusal::is_unknown) {
            return Err(self.no_model(name).await?);
        }
        let answer = self.known(said, &what, "versions", Vec::new())?;
        let versions = answer["model_versions"].as_array().into_iter().flatten();
        let numbers = versions.filter_map(|version| number(&version["version"]));
        match numbers.max() {
            Some(version) => Ok(version.to_string()),
            None => Err(unknown("versions", self.versions(name).await?)),
        }
    }

    async fn logged(&mut self, id: &str) -> Result<Source, Error> {
        let said = self.client.get(&format!("logged-models/{}", escaped(id)), &[]).await;
        let said = match said {
            // MLflow 2 doesn't know the route.
            Err(Error::NotMlflow { server, .. }) => {
                return Err(Error::NotMlflow {
                    server,
                    reason: "it knows no logged models, which came with MLflow 3".to_owned(),
                });
            }
            said => said?,
        };
        let answer = self.known(said, &format!("logged model {id}"), "", Vec::new())?;
        let uri = self.word(&answer["model"]["info"]["artifact_uri"], "model.info.artifact_uri")?;
        self.of = Some(Of::Logged { id: id.to_owned() });
        self.place(&uri)
    }

    /// With MLflow 2 the model is below the run; with MLflow 3 it is a logged model whose source the run is.
    async fn run(&mut self, id: &str, path: &str) -> Result<Source, Error> {
        let said = self.client.get("runs/get", &[("run_id", id)]).await?;
        let answer = self.known(said, &format!("run {id}"), "", Vec::new())?;
        let info = &answer["run"]["info"];
        let root = self.word(&info["artifact_uri"], "run.info.artifact_uri")?;
        let artifacts = Artifacts {
            client: self.client.clone(),
            of: Of::Run {
                id: id.to_owned(),
                path: path.to_owned(),
            },
        };
        let there = artifacts.list(1000).await?;
        let experiment = info["experiment_id"].as_str().unwrap_or_default();
        if !there.iter().any(|entry| entry.path == "MLmodel") {
            let models = self.models_of(experiment, id).await?;
            let named = models.iter().find(|(name, _)| name == path);
            if let Some((_, id)) = named {
                self.steps.push(format!("model {id}"));
                return Ok(Source::Logged { id: id.clone() });
            }
            if there.is_empty() {
                return Err(Error::Unknown {
                    server: self.client.server(),
                    what: format!("model `{path}` of run {id}"),
                    kind: "models of this run",
                    known: models.into_iter().map(|(name, _)| name).collect(),
                });
            }
        }
        self.of = Some(artifacts.of);
        self.place(&format!("{}/{path}", root.trim_end_matches('/')))
    }

    /// Names and ids of what MLflow 3 logged in a run; none with MLflow 2.
    async fn models_of(&self, experiment: &str, run: &str) -> Result<Vec<(String, String)>, Error> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut body = json!({
                "experiment_ids": [experiment],
                "filter": format!("source_run_id = '{}'", run.replace('\'', "")),
                "max_results": 50,
            });
            if let Some(token) = &token {
                body["page_token"] = json!(token);
            }
            let answer = match self.client.post("logged-models/search", &body).await {
                Ok(Ok(answer)) => answer,
                // Neither does MLflow 2 know the route, nor every 3 the filter.
                Ok(Err(_)) | Err(Error::NotMlflow { .. }) => return Ok(found),
                Err(error) => return Err(error),
            };
            for model in answer["models"].as_array().into_iter().flatten() {
                let info = &model["info"];
                let word = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
                if word("source_run_id") == run {
                    found.push((word("name"), word("model_id")));
                }
            }
            let next = answer["next_page_token"].as_str().filter(|next| !next.is_empty());
            match next {
                Some(next) if token.as_deref() != Some(next) => token = Some(next.to_owned()),
                _ => return Ok(found),
            }
        }
    }

    async fn aliases(&self, name: &str) -> Result<Vec<String>, Error> {
        let Ok(answer) = self.client.get("registered-models/get", &[("name", name)]).await? else {
            return Err(self.no_model(name).await?);
        };
        let aliases = answer["registered_model"]["aliases"].as_array().into_iter().flatten();
        let shown = aliases.filter_map(|alias| {
            let version = number(&alias["version"])?;
            Some(format!("{} (version {version})", alias["alias"].as_str()?))
        });
        Ok(shown.collect())
    }

    async fn versions(&self, name: &str) -> Result<Vec<String>, Error> {
        let filter = format!("name='{}'", name.replace('\'', "\\'"));
        let query = [("filter", filter.as_str()), ("max_results", LISTED)];
        let said = self.client.get("model-versions/search", &query).await?;
        let answer = said.unwrap_or_default();
        let versions = answer["model_versions"].as_array().into_iter().flatten();
        let mut versions: Vec<_> = versions.filter_map(|version| number(&version["version"])).collect();
        if versions.is_empty()
            && self
                .client
                .get("registered-models/get", &[("name", name)])
                .await?
                .is_err()
        {
            return Err(self.no_model(name).await?);
        }
        versions.sort_unstable();
        Ok(versions.iter().map(ToString::to_string).collect())
    }

    async fn no_model(&self, name: &str) -> Result<Error, Error> {
        let said = self
            .client
            .get("registered-models/search", &[("max_results", LISTED)])
            .await?;
        let answer = said.unwrap_or_default();
        let models = answer["registered_models"].as_array().into_iter().flatten();
        Ok(Error::Unknown {
            server: self.client.server(),
            what: format!("registered model {name}"),
            kind: "models",
            known: models
                .filter_map(|model| model["name"].as_str().map(str::to_owned))
                .collect(),
        })
    }

    fn word(&self, value: &Value, field: &str) -> Result<String, Error> {
        let text = value
            .as_str()
            .map(str::to_owned)
            .or_else(|| Some(number(value)?.to_string()));
        text.filter(|text| !text.is_empty()).ok_or_else(|| Error::NotMlflow {
            server: self.client.server(),
            reason: format!("its answer has no `{field}`"),
        })
    }

    fn place(&mut self, uri: &str) -> Result<Source, Error> {
        let source: Source = as_kserve_reads_it(uri).parse()?;
        match &source {
            Source::Registered { .. } | Source::Logged { .. } | Source::Run { .. } => {
                self.steps.push(source.to_string());
            }
            Source::Proxied { .. } | Source::Store(_) | Source::Local(_) => {}
        }
        Ok(source)
    }
}

/// MLflow writes Azure's storage as Hadoop does; KServe reads its https form.
fn as_kserve_reads_it(uri: &str) -> String {
    let azure = uri.split_once("://").and_then(|(scheme, rest)| {
        matches!(scheme, "wasb" | "wasbs" | "abfs" | "abfss").then_some(rest)?;
        let (container, rest) = rest.split_once('@')?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let account = host.split('.').next()?;
        Some(format!("https://{account}.blob.core.windows.net/{container}/{path}"))
    });
    azure.unwrap_or_else(|| uri.to_owned())
}

/// The run or the logged model that a place belongs to, by the way MLflow lays its root out: `…/models/m-ID/artifacts`, `…/RUN/artifacts/PATH`. Only a hint: an
/// experiment may have a root of its own.
fn whose(uri: &str) -> Option<Of> {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (before, path) = uri.trim_end_matches('/').rsplit_once("/artifacts")?;
    let (_, id) = before.rsplit_once('/')?;
    let path = path.trim_start_matches('/');
    if path.is_empty() && id.strip_prefix("m-").is_some_and(is_id) {
        return Some(Of::Logged { id: id.to_owned() });
    }
    (!path.is_empty() && is_id(id)).then(|| Of::Run {
        id: id.to_owned(),
        path: path.to_owned(),
    })
}

/// MLflow writes versions as numbers and as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// An id is one segment of a path, whatever was written.
fn escaped(id: &str) -> String {
    id.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_places_are_written_as_kserve_reads_them() {
        assert_eq!(
            as_kserve_reads_it("wasbs://models@acme.blob.core.windows.net/1/a"),
            "https://acme.blob.core.windows.net/models/1/a"
        );
        assert_eq!(as_kserve_reads_it("s3://a/b"), "s3://a/b");
    }

    #[test]
    fn a_place_tells_whose_it_is_where_mlflow_chose_it() {
        let run = "301f461997eb409facc8961c7715d4f4";
        assert_eq!(
            whose(&format!("s3://mlflow/0/{run}/artifacts/model")),
            Some(Of::Run {
                id: run.into(),
                path: "model".into()
            })
        );
        let id = format!("m-{run}");
        let logged = whose(&format!("s3://mlflow/0/models/{id}/artifacts"));
        assert_eq!(logged, Some(Of::Logged { id }));
        assert_eq!(whose("s3://mlflow/own/place"), None);
        assert_eq!(whose(&format!("s3://mlflow/0/{run}/artifacts")), None);
    }

    #[test]
    fn an_id_can_not_leave_its_segment() {
        assert_eq!(escaped("m-1/../x?y"), "m-1xy");
    }
}
