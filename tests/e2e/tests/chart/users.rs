//! The store is opened by a user of its own, as docs/minio.md has an admin make it, who is replaced by another and deleted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidewaiter_e2e::custom::Custom;
use tidewaiter_e2e::install::{NAMESPACE, backend};
use tidewaiter_e2e::manifests;
use tidewaiter_e2e::shell::Shell;
use tidewaiter_e2e::transcript::{blocks, section, with_names};
use tidewaiter_ground::{Namespace, condition, tls};

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_user_of_the_store_is_replaced_by_another_and_deleted",
        a_user_of_the_store_is_replaced_by_another_and_deleted,
    ),
    (
        "a_user_who_mints_keys_is_replaced_by_another_and_deleted",
        a_user_who_mints_keys_is_replaced_by_another_and_deleted,
    ),
];

/// Until every namespace's Secret follows: "within minutes".
const FOLLOWED: Duration = Duration::from_mins(5);

fn a_user_of_the_store_is_replaced_by_another_and_deleted(world: &World) -> Result<()> {
    replaced(world, "copied", false)
}

fn a_user_who_mints_keys_is_replaced_by_another_and_deleted(world: &World) -> Result<()> {
    replaced(world, "mints", true)
}

fn replaced(world: &World, name: &str, mints: bool) -> Result<()> {
    let release = world.release()?;
    let namespace = world.cluster.namespace(name)?;
    let name = namespace.name();
    let (model, _) = world.model()?;
    let uri = model.put(world.cluster.cache(), "mlflow", &format!("{name}/fraud"))?;
    let page = Page::open(world, name)?;
    let first = page.make("first")?;

    let prefix = format!("s3://mlflow/{name}/");
    let mut object = backend(name, "mlflow", &[&prefix]);
    object["spec"]["serves"] = json!([prefix]);
    object["spec"]["credentials"]["secretRef"]["name"] = json!(page.secret);
    if mints {
        object["spec"]["minting"] = json!({});
    }
    let custom = Custom::apply(&world.cluster, &object)?;
    custom.until("Accepted", "True")?;
    namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    let seen = || format!("{}\n{}", namespace.diagnosis("fraud"), release.diagnosis());
    namespace.ready("fraud").with_context(seen)?;
    model.check(&namespace.infer("fraud", &model.request)?)?;
    let key = page.key(&namespace)?;
    if mints {
        custom.until("Minting", "True")?;
        let own = world.cluster.get(NAMESPACE, &format!("secret/{}", page.secret))?;
        let own = own["data"]["AWS_SECRET_ACCESS_KEY"]
            .as_str()
            .context("the user has no key")?;
        let theirs = namespace.kubectl(&["get", "secrets", "-o", "json"])?;
        ensure!(!theirs.contains(own), "the user's own key is in the namespace");
        ensure!(
            key != first && page.keys_of(&first)?.contains(&key),
            "{key} is not a minted key of {first}"
        );
    } else {
        ensure!(key == first, "{key} was delivered, and the user is {first}");
    }
    let before = namespace.get("deployment/fraud-predictor")?;

    let second = page.make("second")?;
    let gone = || {
        let (key, lasts) = (page.key(&namespace)?, page.keys_of(&first)?);
        Ok((key != first && !lasts.contains(&key)).then_some(()))
    };
    world
        .cluster
        .until("the last user's key is in no Secret", FOLLOWED, gone)?;
    page.shell.run(&format!("mc admin user remove minio {first}"))?;
    model.check(&namespace.infer("fraud", &model.request)?)?;
    let after = namespace.get("deployment/fraud-predictor")?;
    ensure!(
        before["metadata"]["generation"] == after["metadata"]["generation"],
        "another key made another generation: {}",
        after["metadata"]
    );
    let now = page.key(&namespace)?;
    ensure!(
        if mints {
            page.keys_of(&second)?.contains(&now)
        } else {
            now == second
        },
        "{now} is not a key of {second}"
    );

    // Whatever starts now loads its model by the new key.
    let pods: Vec<Value> = namespace.pods("fraud")?;
    let uids: Vec<&Value> = pods.iter().map(|pod| &pod["metadata"]["uid"]).collect();
    namespace.kubectl(&[
        "delete",
        "pods",
        "-l",
        "serving.kserve.io/inferenceservice=fraud",
        "--wait=false",
    ])?;
    world
        .cluster
        .until("another Pod is ready", Duration::from_mins(5), || {
            let pods = namespace.pods("fraud")?;
            let mut others = pods.iter().filter(|pod| !uids.contains(&&pod["metadata"]["uid"]));
            Ok(others.any(|pod| condition(pod, "Ready") == Some("True")).then_some(()))
        })
        .with_context(seen)?;
    model.check(&namespace.infer("fraud", &model.request)?)
}

/// The page, followed with users and a Secret of a test's own.
struct Page {
    shell: Shell,
    commands: String,
    name: String,
    secret: String,
}

impl Page {
    fn open(world: &World, name: &str) -> Result<Self> {
        const PAGE: &str = include_str!("../../../../docs/minio.md");
        let blocks = blocks(section(PAGE, "The user that makes keys")?)?;
        let [("json", policy), ("sh", commands)] = blocks[..] else {
            anyhow::bail!("the page has other blocks: {blocks:?}");
        };
        let shell = Shell::open(&world.cluster)?;
        shell.write("policy.json", policy)?;
        Ok(Self {
            shell,
            commands: commands.to_owned(),
            name: name.to_owned(),
            secret: format!("{name}-user"),
        })
    }

    /// Makes a user who has the page's policy, and puts its key into the Secret. Comes back with its name.
    fn make(&self, user: &str) -> Result<String> {
        let user = format!("{}-{user}", self.name);
        let names = [
            ("user add minio tidewaiter ", &format!("user add minio {user} ")),
            ("--user tidewaiter", &format!("--user {user}")),
            ("AWS_ACCESS_KEY_ID=tidewaiter", &format!("AWS_ACCESS_KEY_ID={user}")),
            ("generic minio-user", &format!("generic {}", self.secret)),
        ];
        let names = names.map(|(of_page, own)| (of_page, own.as_str()));
        self.shell.run(&with_names(&self.commands, &names)?)?;
        Ok(user)
    }

    /// The ID of the key that a namespace has.
    fn key(&self, namespace: &Namespace) -> Result<String> {
        let mut secret = namespace.get(&format!("secret/tidewaiter-{}", self.name))?;
        let id = secret["data"]["AWS_ACCESS_KEY_ID"].take();
        let id = String::from_utf8(tls::from_base64(id.as_str().unwrap_or_default())?)?;
        Ok(id)
    }

    /// What MinIO tells of a user's access keys.
    fn keys_of(&self, user: &str) -> Result<String> {
        self.shell.run(&format!("mc admin accesskey ls minio {user} --json"))
    }
}
