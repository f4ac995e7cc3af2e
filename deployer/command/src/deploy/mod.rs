//! `tidewaiter deploy`.

mod arguments;
mod graph;
mod naming;
mod report;
mod showing;
mod staging;
mod submitting;
mod waiting;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::eprintln;
use kube::api::DynamicObject;
use tidewaiter_deployer::cluster::{self, Access, Cluster, kinds};
use tidewaiter_deployer::profile::{Key, Settings};
use tidewaiter_deployer::service::{Wishes, checked_name};
use tidewaiter_deployer::submit::{self, Seen};
use tidewaiter_world::yaml_problem;

use super::output::note;
use super::profile;
use super::{Ending, Failure};

use arguments::DryRun;

pub(crate) use arguments::DeployArguments;

/// The file of wishes beside a model.
const FILE: &str = "tidewaiter.yaml";

/// What holds for the whole command.
struct Context {
    arguments: DeployArguments,
    settings: Settings,
    cluster: Cluster,
    /// Why there is no cluster, where none is needed.
    absent: Option<cluster::Error>,
    wishes: Wishes,
    name: String,
    /// Whether the user gave the name.
    is_named: bool,
    namespace: String,
}

/// Several objects are being written that belong together: a person's Ctrl-C waits for the last of them.
static WRITES: AtomicBool = AtomicBool::new(false);

pub(super) async fn run(arguments: DeployArguments) -> Result<Ending, Failure> {
    let mut done = std::pin::pin!(deploy(arguments));
    loop {
        tokio::select! {
            // What has an answer to a Ctrl-C of its own comes first.
            biased;
            ended = &mut done => return ended,
            _ = tokio::signal::ctrl_c() => {
                if !WRITES.load(Ordering::Relaxed) {
                    eprintln!("\nInterrupted: nothing was submitted.");
                    return Ok(Ending::Interrupted);
                }
            }
        }
    }
}

async fn deploy(arguments: DeployArguments) -> Result<Ending, Failure> {
    let context = context(arguments).await?;
    if let Some(router) = context.wishes.graph {
        return graph::run(&context, router).await;
    }
    let wanted = staging::wanted(&context)?;
    if let Some(server) = &context.wishes.server {
        return graph::add_model(&context, server, &wanted).await;
    }
    // What costs little and may be in the way comes first: a model may be hours of fetching.
    let mut seen = look(&context).await?;
    for remark in &seen.remarks {
        note(remark);
    }
    let sought = wanted.find(&context).await?;
    let far = sought.far();
    if let Some(far) = &far {
        submitting::check(&context, far, &seen)?;
        not_anothers(&context, &seen, |service| {
            naming::other_before(service, &far.from, far.uri.as_deref())
        })?;
    }
    let mut ready = wanted.fetch(&context, sought).await?;
    if far.is_some() {
        // Who knows what the service is by now.
        seen = look(&context).await?;
    }
    not_anothers(&context, &seen, |service| {
        naming::other(service, &ready.from, ready.uri.as_deref())
    })?;
    submitting::run(&context, &mut ready, &seen).await
}

/// What is known of the cluster, where that lets a service of this name be deployed. Who wants to see an object needs none.
async fn look(context: &Context) -> Result<Seen, Failure> {
    let seen = match (&context.absent, context.arguments.dry_run) {
        (Some(error), _) => Seen::nothing(error),
        (None, Some(DryRun::Client)) => seen(context).await.unwrap_or_else(|error| Seen::nothing(&error)),
        (None, _) => {
            let may = context
                .cluster
                .may_store(&kinds::INFERENCE_SERVICE, &context.namespace, &context.name);
            let (seen, may) = futures::join!(Box::pin(seen(context)), Box::pin(may));
            let seen = seen?;
            may?;
            seen
        }
    };
    let leaves = |service: &DynamicObject| service.metadata.deletion_timestamp.is_some();
    if seen.service.as_ref().is_some_and(leaves) {
        return Err(Failure {
            message: format!("{} in namespace {} is being deleted", context.name, context.namespace),
            next: Some(format!(
                "wait until it is gone (`kubectl -n {} wait --for=delete isvc/{}`), and deploy it again",
                context.namespace, context.name
            )),
        });
    }
    Ok(seen)
}

async fn seen(context: &Context) -> Result<Seen, cluster::Error> {
    let kserve = &context.arguments.kserve_namespace;
    submit::look(&context.cluster, &context.namespace, &context.name, kserve).await
}

/// That no service would be replaced which nobody named. `other` tells what it was deployed from, where that is another model.
fn not_anothers(
    context: &Context,
    seen: &Seen,
    other: impl FnOnce(&DynamicObject) -> Option<String>,
) -> Result<(), Failure> {
    let service = seen.service.as_ref().filter(|_| !context.is_named);
    match service.and_then(other) {
        Some(other) => Err(naming::taken(&context.name, &context.namespace, &other)),
        None => Ok(()),
    }
}

async fn context(arguments: DeployArguments) -> Result<Context, Failure> {
    if arguments.diff && arguments.output.is_some() {
        return Err(Failure {
            message: "--diff shows line by line what would change, and --output has no form for that".to_owned(),
            next: Some(
                "leave --output out; --dry-run=server with --output prints the object as it would be".to_owned(),
            ),
        });
    }
    let settings = settings(&arguments)?;
    let access = Access {
        kubeconfig: arguments.kubeconfig.clone(),
        context: settings.get(Key::KubernetesContext).map(str::to_owned),
    };
    let wishes = arguments.wishes().over(of_file(&arguments)?);
    if wishes.source.is_none() && wishes.image.is_none() && wishes.graph.is_none() {
        return Err(no_model());
    }
    wishes.whole()?;
    let (cluster, absent) = connect(&access, arguments.dry_run).await?;
    let namespace = wishes
        .namespace
        .clone()
        .or_else(|| settings.get(Key::KubernetesNamespace).map(str::to_owned))
        .unwrap_or_else(|| cluster.default_namespace().to_owned());
    let name = match &wishes.name {
        Some(name) => checked_name(name, &namespace)?.to_owned(),
        None => naming::named_after(wishes.source.as_deref().unwrap_or_default(), &namespace)?,
    };
    Ok(Context {
        is_named: wishes.name.is_some(),
        wishes: Wishes {
            name: Some(name.clone()),
            ..wishes
        },
        arguments,
        settings,
        cluster,
        absent,
        name,
        namespace,
    })
}

fn no_model() -> Failure {
    Failure {
        message: "no model was named".to_owned(),
        next: Some(
            "name SOURCE, such as models:/NAME/VERSION or s3://BUCKET/PATH; an image that brings its model (--image); a graph of services (--graph); or a file that \
             says one of them as `source`, `image` or `graph` (--file)"
                .to_owned(),
        ),
    }
}

/// The cluster; for who only wants to see an object also none, and why.
async fn connect(
    access: &Access,
    dry_run: Option<DryRun>,
) -> Result<(Cluster, Option<cluster::Error>), cluster::Error> {
    match Cluster::connect(access).await {
        Ok(cluster) => Ok((cluster, None)),
        Err(error @ cluster::Error::NoCluster { .. }) if dry_run == Some(DryRun::Client) => {
            Ok((Cluster::none(&error), Some(error)))
        }
        Err(error) => Err(error),
    }
}

fn settings(arguments: &DeployArguments) -> Result<Settings, Failure> {
    let flags = [
        (Key::KubernetesContext, &arguments.context),
        (Key::KubernetesNamespace, &arguments.namespace),
        (Key::Secret, &arguments.secret),
        (Key::ArtifactStore, &arguments.artifact_store),
        (Key::TrackingServer, &arguments.tracking_server),
    ];
    let flags: BTreeMap<Key, String> = flags
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)))
        .collect();
    profile::settings(arguments.profile.as_deref(), &flags)
}

/// Wishes of the file that was named, or that lies beside a local model.
fn of_file(arguments: &DeployArguments) -> Result<Wishes, Failure> {
    let beside = arguments.source.as_deref().map(|source| Path::new(source).join(FILE));
    let file = match (&arguments.file, beside) {
        (Some(file), _) => file.clone(),
        (None, Some(beside)) if beside.is_file() => beside,
        _ => return Ok(Wishes::default()),
    };
    let text = fs::read_to_string(&file).map_err(|error| Failure {
        message: format!("can't read {}: {error}", file.display()),
        next: Some("name a file that is there with --file".to_owned()),
    })?;
    serde_saphyr::from_str(&text).map_err(|error| Failure {
        message: yaml_problem(&file.display().to_string(), &error),
        next: Some("docs/deploy.md lists the fields, under \"A deployment in a file\"".to_owned()),
    })
}

#[cfg(test)]
mod order_tests;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewaiter_deployer::wait::{Outcome, Stage};

    use super::*;

    #[derive(Debug, clap::Parser)]
    pub(super) struct Line {
        #[command(flatten)]
        pub(super) deploy: DeployArguments,
    }

    fn arguments(kubeconfig: &Path, dry_run: &str) -> DeployArguments {
        said(
            kubeconfig,
            &["--image", "an/image:1", "--name", "fraud", "--dry-run", dry_run],
        )
    }

    fn said(kubeconfig: &Path, words: &[&str]) -> DeployArguments {
        let kubeconfig = kubeconfig.display().to_string();
        let words = ["deploy", "--kubeconfig", &kubeconfig]
            .into_iter()
            .chain(words.iter().copied());
        <Line as clap::Parser>::parse_from(words).deploy
    }

    /// What holds with these words, and a file with this text.
    async fn with_file(text: &str, words: &[&str]) -> Result<Context, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deploy.yaml");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let words: Vec<&str> = ["--dry-run", "client", "-n", "team-a", "--file", &file]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        context(said(&folder.path().join("missing"), &words)).await
    }

    #[tokio::test]
    async fn a_service_is_named_after_the_source_in_its_file() {
        let named = with_file("source: models:/Fraud_Model@champion", &[]).await.unwrap();
        assert_eq!(named.name, "fraud-model");
        let over = with_file("source: models:/fraud/3", &["s3://m/churn"]).await.unwrap();
        assert_eq!(over.name, "churn");
        let failure = with_file("source: runs:/4f0c/model", &[]).await.err().unwrap();
        assert!(failure.message.contains("no name"), "{failure:?}");
    }

    #[tokio::test]
    async fn who_names_no_model_is_told_every_way_to_name_one() {
        let folder = tempfile::tempdir().unwrap();
        for failure in [
            context(said(&folder.path().join("missing"), &["--name", "fraud"])).await,
            with_file("minReplicas: 2", &[]).await,
        ] {
            let failure = failure.err().unwrap();
            assert_eq!(failure.message, "no model was named");
            let next = failure.next.unwrap();
            for way in ["SOURCE", "--image", "--graph", "--file"] {
                assert!(next.contains(way), "{next}");
            }
        }
    }

    #[tokio::test]
    async fn a_quantity_that_is_none_is_refused_before_anything_is_looked_for() {
        let refused = async |file: &str, words: &[&str]| {
            let words = [&["s3://m/1"][..], words].concat();
            let failure = with_file(file, &words).await.err().unwrap();
            assert!(failure.next.unwrap().contains("500m or 2Gi"));
            failure.message
        };
        assert_eq!(
            refused("{}", &["--limit", "memory=abc"]).await,
            "the limit `abc` of memory is no quantity"
        );
        assert_eq!(
            refused("{}", &["--request", "cpu=1,5"]).await,
            "the request `1,5` of cpu is no quantity"
        );
        assert_eq!(
            refused("{}", &["--server", "many", "--memory", "1GB"]).await,
            "the memory `1GB` that the model takes is no quantity"
        );
        let file = "{transformer: {image: a/b, resources: {limits: {memory: much}}}}";
        assert_eq!(
            refused(file, &[]).await,
            "the transformer's limit `much` of memory is no quantity"
        );
        with_file("{}", &["s3://m/1", "--limit", "memory=2Gi", "--request", "cpu=500m"])
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_form_for_differences_is_refused_since_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["s3://m/fraud", "--diff", "-o", "json"];
        let failure = context(said(&folder.path().join("missing"), &words))
            .await
            .err()
            .unwrap();
        assert!(failure.message.contains("--output has no form"), "{failure:?}");
    }

    #[tokio::test]
    async fn what_an_image_of_ones_own_serves_is_taken_as_it_is() {
        let model = tempfile::tempdir().unwrap();
        fs::create_dir(model.path().join("parts")).unwrap();
        fs::write(model.path().join("net.pt"), "weights").unwrap();
        fs::write(model.path().join("parts/labels.txt"), "a").unwrap();
        let model = model.path().display().to_string();
        let words = [
            model.as_str(),
            "--name",
            "own",
            "--image",
            "a/server:1",
            "--artifact-store",
            "s3://m/",
        ];
        let context = with_file("{}", &words).await.unwrap();
        let wanted = staging::wanted(&context).unwrap();
        let sought = wanted.find(&context).await.unwrap();
        let ready = wanted.fetch(&context, sought).await.unwrap();
        assert_eq!(
            (ready.model.framework, ready.model.files, ready.to_send()),
            (tidewaiter_deployer::model::Framework::Custom, 2, 8)
        );
        // What PyTorch weights need isn't asked for, and nothing is said of it.
        let words = [&words[..], &["--predict", "house.answer"]].concat();
        let failure = with_file("{}", &words).await.err().unwrap();
        assert!(
            failure.message.starts_with("--predict and --image exclude each other"),
            "{failure:?}"
        );
    }

    #[tokio::test]
    async fn a_dry_run_by_the_client_asks_no_server_and_no_store() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.json");
        fs::write(&model, r#"{"learner":{"x":1},"version":[3,0,2]}"#).unwrap();
        let missing = folder.path().join("missing");
        let dry = ["--dry-run", "client", "-n", "team-a", "--name", "fraud"];
        let on_server = [
            "s3://m/x",
            "--framework",
            "sklearn",
            "--server",
            "many",
            "--memory",
            "1Gi",
        ];
        let model = model.display().to_string();
        // Nobody listens there.
        let uploaded = [
            model.as_str(),
            "--artifact-store",
            "s3://m/",
            "--s3-endpoint",
            "http://127.0.0.1:9",
        ];
        for words in [&on_server[..], &uploaded] {
            let arguments = said(&missing, &[words, &dry].concat());
            assert_eq!(Box::pin(deploy(arguments)).await.unwrap(), Ending::Nothing, "{words:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_kserve_refuses_is_refused_before_anything_is_looked_for_and_a_valid_one_is_offered() {
        for (file, words) in [
            ("name: Fraud_Model", &["s3://m/1"][..]),
            ("{}", &["s3://m/1", "--name", "Fraud_Model"]),
        ] {
            let failure = with_file(file, words).await.err().unwrap();
            assert!(
                failure.message.starts_with("KServe refuses the name `Fraud_Model`"),
                "{failure:?}"
            );
            assert_eq!(
                failure.next.as_deref(),
                Some("call it `fraud-model`: --name fraud-model")
            );
        }
    }

    #[tokio::test]
    async fn a_graph_and_a_model_on_a_server_stand_in_a_file() {
        let file = "{graph: splitter, name: ab, steps: [fraud-a=90, fraud-b=10], minReplicas: 2}";
        let context = with_file(file, &[]).await.unwrap();
        let router = context.wishes.graph.unwrap();
        assert_eq!(graph::run(&context, router).await.unwrap(), Ending::Nothing);
        let flags = with_file(file, &["--step", "a=50", "--step", "b=50", "--name", "half"])
            .await
            .unwrap();
        assert_eq!(
            (flags.wishes.steps, flags.name.as_str()),
            (vec!["a=50".to_owned(), "b=50".to_owned()], "half")
        );

        // Each is refused as where it is said by flags.
        let refused = async |text: &str, words: &[&str]| {
            let failure = match with_file(text, words).await {
                Ok(context) => match context.wishes.graph {
                    Some(router) => graph::run(&context, router).await.unwrap_err(),
                    None => panic!("{text} is taken"),
                },
                Err(failure) => failure,
            };
            failure.message
        };
        for (text, words, part) in [
            (
                "{graph: splitter, name: ab, steps: [a=90, b=20]}",
                &[] as &[&str],
                "make 110 together",
            ),
            (
                "{graph: ensemble, name: ab, steps: [a=1, b]}",
                &[],
                "asked by an ensemble",
            ),
            (
                "{graph: sequence, name: ab, steps: [a, b], gpus: 1}",
                &[],
                "--gpus has no place in an InferenceGraph",
            ),
            (
                "{graph: sequence, name: ab, steps: [a, b]}",
                &["s3://m/1"],
                "SOURCE has no place in an InferenceGraph",
            ),
            (
                "{graph: sequence, name: ab, steps: [a, b]}",
                &["--server", "many", "--memory", "1Gi"],
                "--memory, --server have no place in an InferenceGraph",
            ),
            ("{graph: sequence, name: ab}", &[], "of 0 services is none"),
            ("{source: s3://m/1, steps: [a]}", &[], "no graph was wished for"),
            ("{source: s3://m/1, memory: 1Gi}", &[], "none was named"),
            (
                "{source: s3://m/1, server: many}",
                &[],
                "how much memory the model takes on many",
            ),
        ] {
            let told = refused(text, words).await;
            assert!(told.contains(part), "{text}: {told}");
        }
        let server = with_file("{source: s3://m/1, server: many}", &["--memory", "1Gi"])
            .await
            .unwrap();
        assert_eq!(
            (server.wishes.server.as_deref(), server.wishes.memory.as_deref()),
            (Some("many"), Some("1Gi"))
        );
    }

    #[tokio::test]
    async fn a_graph_is_told_to_a_program_as_a_service_is() {
        let context = with_file("{graph: splitter, name: ab, steps: [a=90, b=10]}", &[])
            .await
            .unwrap();
        let told = |before: &'static str, outcome: Result<Outcome, cluster::Error>| {
            let mut report = report::of(&context, &kinds::INFERENCE_GRAPH, None, before);
            let ending = waiting::told(&context, &mut report, outcome, || ());
            (ending, serde_json::to_value(report).unwrap())
        };
        let ready = |url: &str| {
            Ok(Outcome::Ready {
                url: Some(url.to_owned()),
                remarks: Vec::new(),
            })
        };
        let whole = json!({
            "kind": "InferenceGraph", "name": "ab", "namespace": "team-a", "outcome": "ready", "url": "http://ab",
            "graph": "splitter", "steps": ["a=90", "b=10"],
        });
        assert_eq!(told("submitted", ready("http://ab")), (Ending::Nothing, whole));
        assert_eq!(told("unchanged", ready("http://ab")).1["outcome"], "unchanged");
        let late = Outcome::TimedOut {
            stage: Stage::Pod,
            finding: None,
            unmet: vec!["no such service".to_owned()],
        };
        let (ending, late) = told("submitted", Ok(late));
        assert_eq!(ending, Ending::Something);
        assert_eq!(
            (&late["outcome"], &late["stage"], &late["evidence"]),
            (&json!("timeout"), &json!("pod"), &json!(["no such service"]))
        );
        assert!(late["next"].as_str().unwrap().contains("--timeout"));
        let (ending, gone) = told("submitted", Ok(Outcome::Deleted));
        assert_eq!((ending, &gone["outcome"]), (Ending::Something, &json!("deleted")));
        // It is stored: no error that says nothing was submitted.
        let error = cluster::Error::Unauthorized {
            server: "https://k8s".to_owned(),
        };
        let (ending, unknown) = told("submitted", Err(error));
        assert_eq!((ending, &unknown["outcome"]), (Ending::Something, &json!("unknown")));
    }

    #[test]
    fn a_field_of_a_file_that_does_not_exist_is_told_with_the_one_that_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deploy.yaml");
        fs::write(&file, "name: fraud\nminReplica: 2\n").unwrap();
        let arguments = DeployArguments {
            file: Some(file.clone()),
            ..arguments(folder.path(), "client")
        };
        let failure = of_file(&arguments).unwrap_err();
        let wanted = format!(
            "{}:2: there is no field `minReplica` here; did you mean `minReplicas`?",
            file.display()
        );
        assert_eq!(failure.message, wanted);
    }

    #[tokio::test]
    async fn an_object_is_made_without_a_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let alone = folder.path().join("config");
        // Nobody listens there.
        let config = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
                      clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: a, user: {}}]\n";
        fs::write(&alone, config).unwrap();
        for (kubeconfig, why) in [
            (&missing, "no cluster to work on"),
            (&alone, "no answer from the API server"),
        ] {
            let context = context(arguments(kubeconfig, "client")).await.unwrap();
            let seen = look(&context).await.unwrap();
            assert!(seen.facts.runtimes.named("default", "kserve-mlserver").is_some());
            let [remark] = seen.remarks.as_slice() else {
                panic!("{:?}", seen.remarks)
            };
            assert!(
                remark.starts_with(why) && remark.contains("that KServe v0."),
                "{remark}"
            );
            assert_eq!(
                Box::pin(deploy(arguments(kubeconfig, "client"))).await.unwrap(),
                Ending::Nothing
            );
            let failure = Box::pin(deploy(arguments(kubeconfig, "server"))).await.unwrap_err();
            assert!(failure.message.starts_with(why), "{failure:?}");
        }
    }
}
