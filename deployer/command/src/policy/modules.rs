//! The modules of a configuration's policies that come over the network: fetched as the server fetches them, and refused where it refuses them.

use std::path::Path;

use bytes::Bytes;
use futures::future::join_all;
use tidewaiter_core::policy_resource::{Module, OciModule, WasmPolicy};
use tidewaiter_registry::{Credentials, Fetcher, ModulesFile, Reference, Registry, Wanted, Ways, nobody};
use tidewaiter_tools::{Live, Source};
use tidewaiter_world::{ObjectRef, Objects, Problem, Supplied};

use super::super::Failure;
use super::registry::{account, read};

/// How modules come.
pub(crate) struct Modules {
    ways: Ways,
    /// Secrets that open registries for all policies.
    pub(crate) pull_secrets: Vec<String>,
    /// Which accounts the server has isn't known: those of this machine may open registries too.
    logged_in: bool,
    /// What isn't known of the server, to be told where a module comes over the network.
    unknown: Option<Problem>,
}

impl Modules {
    /// As the file of the server's `--modules` says it.
    pub(crate) fn of_file(file: &Path) -> Result<Self, Failure> {
        let next = "--modules names the file that `tidewaiter-webhook --modules` reads";
        let text = read(file, next)?;
        let (ways, pull_secrets) = parsed(&text).map_err(|reason| Failure {
            message: format!("{}: {reason}", file.display()),
            next: Some(next.to_owned()),
        })?;
        Ok(Self {
            ways,
            pull_secrets,
            logged_in: false,
            unknown: None,
        })
    }

    /// By the server's defaults.
    pub(crate) fn by_default() -> Result<Self, Failure> {
        Ok(Self {
            ways: Ways::new(&ModulesFile::default())?,
            pull_secrets: Vec::new(),
            logged_in: true,
            unknown: None,
        })
    }

    /// As the cluster's server is told, so far as its user may see that.
    pub(crate) async fn of_cluster(live: &Live, namespace: &str) -> Result<Self, Failure> {
        let map = Live::modules_map(namespace);
        let unknown = match live.modules(namespace).await.map(|text| text.map(|text| parsed(&text))) {
            Ok(Some(Ok((ways, pull_secrets)))) => {
                return Ok(Self {
                    ways,
                    pull_secrets,
                    logged_in: false,
                    unknown: None,
                });
            }
            // A server without the chart has its defaults, if no argument says otherwise.
            Ok(None) => Problem {
                object: Some(map),
                at: None,
                message: "isn't there, so policies are fetched by the server's defaults; --tidewaiter-namespace names Tidewaiter's namespace, \
                          --modules a file"
                    .to_owned(),
                in_use: true,
            },
            Ok(Some(Err(reason))) => unseen(&map, &format!("can't be used ({reason})")),
            Err(reason) => unseen(&map, &format!("can't be read ({reason})")),
        };
        Ok(Self {
            unknown: Some(unknown),
            ..Self::by_default()?
        })
    }

    /// Puts the modules in that policies name, or why they can't be had.
    pub(crate) async fn supply(self, source: &mut Source) {
        let objects = &source.objects;
        let mut remarks = Vec::new();
        let mut asked = Vec::new();
        for policy in objects.policies.iter().filter(|policy| is_fetched(policy)) {
            let name = policy.metadata.name.clone().unwrap_or_default();
            asked.push((name, self.asked(policy, objects, &mut remarks)));
        }
        remarks.extend(self.unknown.filter(|_| !asked.is_empty()));
        let fetched = asked.into_iter().map(async |(name, asked)| {
            let component = match asked {
                Ok((registry, wanted)) => fetched(&registry, &wanted).await,
                Err(reason) => Err(reason),
            };
            let remark = None;
            (name, Supplied { component, remark })
        });
        let fetched = join_all(fetched).await;
        source.objects.modules.extend(fetched);
        for remark in remarks {
            source.tell(remark);
        }
    }

    fn asked(
        &self,
        policy: &WasmPolicy,
        objects: &Objects,
        remarks: &mut Vec<Problem>,
    ) -> Result<(Registry, Wanted), String> {
        let spec = &policy.spec;
        let wanted = self
            .ways
            .wanted(&spec.module, spec.digest.as_deref(), spec.verify.as_ref())
            .map_err(|error| error.to_string())?;
        let credentials = match &spec.module {
            Module::Oci(module) => {
                let mut remark = |reason: String| {
                    let name = policy.metadata.name.as_deref().unwrap_or_default();
                    remarks.push(Problem {
                        in_use: true,
                        ..objects.problem(ObjectRef::cluster("WasmPolicy", name), reason)
                    });
                };
                self.credentials(module, objects, &mut remark)?
            }
            _ => Credentials::default(),
        };
        Ok((self.ways.registry(credentials), wanted))
    }

    /// The accounts that the server has, as far as they can be seen here; for those that can't, the one of `docker login`.
    fn credentials(
        &self,
        module: &OciModule,
        objects: &Objects,
        remark: &mut impl FnMut(String),
    ) -> Result<Credentials, String> {
        let mut found = Credentials::default();
        let mut logged_in = self.logged_in;
        let own = module.pull_secret.iter().map(|name| ("pullSecret", name));
        let for_all = self.pull_secrets.iter().map(|name| ("pullSecrets", name));
        for (field, name) in own.chain(for_all) {
            if let Some(why) = unseen_secret(name, objects) {
                logged_in = true;
                remark(format!(
                    "{field}: {why}; the registry is asked with the account of docker login on this machine"
                ));
                continue;
            }
            let accounts = objects.docker_config(name).and_then(|content| {
                Credentials::docker_config(content).map_err(|error| format!("Secret {name} {error}"))
            });
            match accounts {
                Ok(accounts) => found = found.and(accounts),
                Err(reason) if field == "pullSecret" => return Err(format!("{field}: {reason}")),
                Err(reason) => remark(format!("{field}: {reason}; registries that need it will refuse")),
            }
        }
        if logged_in {
            let reference: Reference = module.image.parse().map_err(|error| format!("{error}"))?;
            found = found.and(account(reference.registry()).map_err(|failure| failure.message)?);
        }
        Ok(found)
    }
}

fn parsed(text: &str) -> Result<(Ways, Vec<String>), String> {
    let file = if text.trim().is_empty() {
        ModulesFile::default()
    } else {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?
    };
    let ways = Ways::new(&file).map_err(|error| error.to_string())?;
    Ok((ways, file.pull_secrets))
}

/// A problem by which reviews lack something: whose signatures the server wants isn't known.
fn unseen(map: &ObjectRef, why: &str) -> Problem {
    Problem {
        object: None,
        at: None,
        message: format!(
            "{map} {why}; policies are fetched by the server's defaults, and whose signatures it wants isn't known; --modules names a file with the same"
        ),
        in_use: false,
    }
}

/// What is wrong with an object's own words is told without its module.
fn is_fetched(policy: &WasmPolicy) -> bool {
    matches!(policy.spec.module, Module::Oci(_) | Module::Https(_)) && policy.spec.problems().is_empty()
}

/// Why a Secret can't be seen that the server may well have: its user may not, or it isn't in the folder, where Secrets rarely are.
fn unseen_secret(name: &str, objects: &Objects) -> Option<String> {
    let why = objects.pull_secret(name).err()?;
    match &objects.own_namespace {
        None => Some(why),
        Some(own) => {
            let secret = ObjectRef::namespaced("Secret", own, name);
            objects.withheld.contains_key(&secret).then_some(why)
        }
    }
}

async fn fetched(registry: &Registry, wanted: &Wanted) -> Result<Bytes, String> {
    let fetched = Fetcher::default().fetch(registry, wanted, &nobody).await;
    fetched
        .map(|fetched| fetched.component)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use tidewaiter_core::policy_resource::WasmPolicySpec;
    use tidewaiter_tools::Gate;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::source::engine;
    use super::*;

    /// Nobody listens there.
    const POLICY: &str = "\
apiVersion: tidewaiter.dev/v1alpha1
kind: WasmPolicy
metadata: {name: house}
spec: {module: {oci: {image: '127.0.0.1:1/house:1', pullSecret: shop}}}
";

    async fn problems(configuration: &str, modules: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (config, file) = (folder.path().join("config"), folder.path().join("modules.yaml"));
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("policy.yaml"), configuration).unwrap();
        std::fs::write(&file, modules).unwrap();
        let mut source = Source::folder(&config, &BTreeMap::new()).unwrap();
        Modules::of_file(&file).unwrap().supply(&mut source).await;
        let gate = Gate::new(&engine().unwrap(), source).await;
        let policys = |problem: &&Problem| {
            problem
                .object
                .as_ref()
                .is_some_and(|object| object.kind == "WasmPolicy")
        };
        let told = gate.problems().iter().filter(policys);
        told.map(|problem| {
            assert_eq!(gate.lacks(problem), !problem.in_use, "{problem}");
            problem.to_string()
        })
        .collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_module_that_cannot_be_had_is_told_with_its_field_once() {
        let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: shop, namespace: tidewaiter-system}\n\
                      stringData: {.dockerconfigjson: '{\"auths\": {}}'}\n";
        let told = problems(&format!("{POLICY}{secret}"), "").await;
        let [away] = &told[..] else { panic!("{told:?}") };
        assert!(
            away.ends_with("policy.yaml:1: WasmPolicy/house: spec.module.oci: 127.0.0.1:1 doesn't answer: Connection refused (os error 111); it doesn't run, and what it matches is admitted without it"),
            "{away}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_secret_that_is_not_in_the_folder_stands_aside_for_the_account_of_this_machine() {
        let told = problems(POLICY, "pullSecrets: [all]").await;
        let remarks: Vec<_> = told.iter().filter(|told| told.contains("docker login")).collect();
        let [own, all] = remarks[..] else { panic!("{told:?}") };
        assert!(
            own.contains("WasmPolicy/house: pullSecret: Secret/shop isn't there; "),
            "{own}"
        );
        assert!(
            all.contains("WasmPolicy/house: pullSecrets: Secret/all isn't there; "),
            "{all}"
        );
    }

    #[test]
    fn a_secret_that_the_cluster_lacks_is_missing_there_too_unless_its_user_may_not_see_it() {
        let mut objects = Objects {
            own_namespace: Some("tidewaiter-system".to_owned()),
            ..Objects::default()
        };
        let mut spec = WasmPolicySpec::builtin("x", &[]);
        let module = OciModule {
            image: "127.0.0.1:1/house:1".to_owned(),
            pull_secret: Some("shop".to_owned()),
        };
        spec.module = Module::Oci(module);
        let policy = WasmPolicy::new("house", spec);
        let modules = Modules::by_default().unwrap();
        let mut remarks = Vec::new();
        assert_eq!(
            modules.asked(&policy, &objects, &mut remarks).err().unwrap(),
            "pullSecret: Secret/tidewaiter-system/shop isn't there; create it, or correct the name"
        );
        let secret = ObjectRef::namespaced("Secret", "tidewaiter-system", "shop");
        objects.withheld.insert(secret, "ann may not get it".to_owned());
        assert!(modules.asked(&policy, &objects, &mut remarks).is_ok());
        let [remark] = &remarks[..] else { panic!("{remarks:?}") };
        assert_eq!(
            remark.to_string(),
            "WasmPolicy/house: pullSecret: Secret/tidewaiter-system/shop can't be read: ann may not get it; \
             the registry is asked with the account of docker login on this machine"
        );
    }

    /// An API server that has one answer to everything.
    async fn answering(status: u16, answer: serde_json::Value) -> Live {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let body = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status} said\r\ncontent-length: {}\r\nconnection: close",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
            }
        });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Live::new(kube::Client::try_from(config).unwrap(), "kserve")
    }

    #[tokio::test]
    async fn what_the_clusters_server_is_told_counts_as_far_as_it_may_be_seen() {
        let map = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tidewaiter-modules"}, "data": {"modules.yaml": text}});
        let refusal = |code: u16, reason: &str| json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "ann may not"});
        let told = async |status: u16, answer: serde_json::Value| {
            // What Tidewaiter connects by, which the client needs too.
            Modules::by_default().unwrap();
            let live = answering(status, answer).await;
            Modules::of_cluster(&live, "tidewaiter-system").await.unwrap()
        };
        let known = told(200, map("pullSecrets: [all]")).await;
        assert_eq!(known.pull_secrets, ["all"]);
        assert!(known.unknown.is_none() && !known.logged_in);
        for (status, answer, says, in_use) in [
            (404, refusal(404, "NotFound"), "isn't there", true),
            (403, refusal(403, "Forbidden"), "can't be read (ann may not)", false),
            (200, map("hosts: [{host: a, ca: x}]"), "can't be used (hosts: ", false),
        ] {
            let modules = told(status, answer).await;
            assert!(modules.logged_in, "{says}");
            let unknown = modules.unknown.unwrap();
            let message = unknown.to_string();
            assert!(
                message.starts_with("ConfigMap/tidewaiter-system/tidewaiter-modules"),
                "{message}"
            );
            assert!(message.contains(says) && unknown.in_use == in_use, "{unknown:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_file_names_it_and_the_field() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("modules.yaml");
        assert!(Modules::of_file(&file).err().unwrap().next.is_some());
        std::fs::write(&file, "hosts: [{host: a, ca: x}]").unwrap();
        let message = Modules::of_file(&file).err().unwrap().message;
        assert!(message.contains("modules.yaml: hosts: "), "{message}");
    }
}
