//! What the words mean that containers end with.
//!
//! Sources: logs of KServe 0.20's storage initializer, of its sklearnserver and xgbserver, and of MLServer 1.5.0 and 1.7.1, produced for each cause (the fixtures
//! beside this); for other stores the messages of the clients that the initializer uses (`python/storage/kserve_storage`).

use serde_json::Value;
use tidewaiter_core::backend::MANAGED_NAME;

use super::finding::{Cause, Finding};
use super::state::{State, text};

/// What the storage initializer ended with. `tries`: how often it did.
pub(super) fn of_initializer(state: &State, pod: &Value, log: &str, tries: u64) -> Finding {
    let found = absent(state, log).or_else(|| refused(state, pod, log, tries));
    found.unwrap_or_else(|| {
        Finding::new(
            Cause::ServerFailed,
            format!("{} could not be downloaded", state.uri()),
            format!(
                "look at the whole log: tidewaiter logs {} -n {} --of initializer{}",
                state.name(),
                state.namespace(),
                match text(&pod["metadata"]["labels"]["component"]) {
                    "" | "predictor" => String::new(),
                    role => format!(" --component {role}"),
                }
            ),
        )
        .seen(last_error(log))
        .certain(tries > 1)
    })
}

/// Credentials, a bucket or a model that isn't there.
fn absent(state: &State, log: &str) -> Option<Finding> {
    let uri = state.uri();
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    let last = last_error(log);
    if has(&[
        "Unable to locate credentials",
        "authentication failed. Set AWS_ACCESS_KEY_ID",
        "DefaultCredentialsError",
        "Anonymous caller does not have",
        "DefaultAzureCredential failed",
        "Public access is not permitted",
    ]) {
        return Some(
            Finding::new(
                Cause::CredentialsMissing,
                format!("the Pod has no credentials for {uri}"),
                format!(
                    "give the store's keys{}, or name what has them: --secret or --service-account",
                    flags(uri)
                ),
            )
            .seen(last),
        );
    }
    if has(&[
        "(404) when calling the HeadBucket",
        "NoSuchBucket",
        "The specified bucket does not exist",
        "ContainerNotFound",
    ]) {
        let bucket = uri.split('/').nth(2).unwrap_or(uri);
        return Some(
            Finding::new(
                Cause::NoBucket,
                format!("there is no bucket {bucket}"),
                format!("look for it in the store that the Secret's endpoint leads to; the service asks for {uri}"),
            )
            .seen(last),
        );
    }
    if has(&[
        "(404) when calling",
        "No model found in",
        "NoSuchKey",
        "RepositoryNotFoundError",
        "BlobNotFound",
    ]) {
        return Some(
            Finding::new(
                Cause::NoModel,
                format!("there is no model at {uri}"),
                "look at what lies there; a folder's URI ends with the folder's name",
            )
            .seen(last),
        );
    }
    None
}

/// A store that says no, or nothing.
fn refused(state: &State, pod: &Value, log: &str, tries: u64) -> Option<Finding> {
    let uri = state.uri();
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    let last = last_error(log);
    if has(&[
        "(403)",
        "[403]",
        "Forbidden",
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "invalid_grant",
        "AuthenticationFailed",
        "ClientAuthenticationError",
        "401 Client Error",
        "GatedRepoError",
    ]) {
        let secret = opened_by(pod);
        let of = secret.map_or_else(String::new, |secret| {
            format!(", which are those of the Secret {secret}")
        });
        let backend = secret
            .and_then(|secret| secret.strip_prefix(MANAGED_NAME))
            .filter(|_| is_filled(state));
        let hint = match backend {
            Some(backend) => format!(
                "Tidewaiter brought them: ask whoever keeps the StorageBackend {backend} to look at its key, and whether it may read {uri} (kubectl describe storagebackend {backend})"
            ),
            None => format!(
                "check the key, and that it may read {uri}; give the right one{}, or name a Secret that has it: --secret",
                flags(uri)
            ),
        };
        return Some(
            Finding::new(
                Cause::CredentialsWrong,
                format!("the store refuses the credentials for {uri}{of}"),
                hint,
            )
            .seen(last)
            // A key that was made a moment ago may not be known to the store yet.
            .certain(!is_filled(state) || tries > 2),
        );
    }
    if has(&["CERTIFICATE_VERIFY_FAILED", "SSL validation failed"]) {
        return Some(Finding::new(
            Cause::StoreUnreachable,
            format!("the store of {uri} shows a certificate that the Pod doesn't trust"),
            "have an admin give KServe the authority's certificate (storageInitializer.caBundleConfigMapName), or, for a trial, --s3-verify-ssl=0",
        )
        .seen(last));
    }
    if has(&[
        "Could not connect to the endpoint",
        "Connect timeout",
        "Name or service not known",
        "Temporary failure in name resolution",
        "Connection refused",
        "EndpointConnectionError",
        "Max retries exceeded",
    ]) {
        return Some(Finding::new(
            Cause::StoreUnreachable,
            format!("the Pod can't reach the store of {uri}"),
            "check the endpoint's host, port and scheme (--s3-endpoint http://HOST:PORT) as seen from inside of the cluster, and NetworkPolicies",
        )
        .seen(last)
        .certain(tries > 1));
    }
    if has(&["No space left on device"]) {
        return Some(
            Finding::new(
                Cause::OutOfMemory,
                "the node's disk is too small for the model",
                "ask for a larger one: --request ephemeral-storage=20Gi",
            )
            .seen(last),
        );
    }
    None
}

/// What a model's server ended with, or what it runs on with; none where its words are not known.
pub(super) fn of_server(state: &State, log: &str) -> Option<Finding> {
    let uri = state.uri();
    let line = |word: &str| log.lines().rev().find(|line| line.contains(word)).map(str::trim);
    let first = |words: &[&str]| words.iter().find_map(|word| line(word));
    if let Some(line) = first(&["exec format error", "cannot execute binary file", "Illegal instruction"]) {
        return Some(architecture(line));
    }
    if let Some(line) = first(&[
        "failed to locate model file",
        "Could not find an \"MLmodel\" configuration file",
        "IsADirectoryError: [Errno 21] Is a directory: '/mnt/models'",
        "Missing Model File",
        "More than one model file is detected",
        "No model repository found",
        "no files found for given model",
    ]) {
        let format = state.service["spec"]["predictor"]["model"]["modelFormat"]["name"]
            .as_str()
            .unwrap_or("custom");
        return Some(
            Finding::new(
                Cause::WrongFramework,
                format!("the server finds no {format} model in {uri}"),
                format!(
                    "look at the files there, and say with --framework what they are; {}",
                    expected(format)
                ),
            )
            .seen(line),
        );
    }
    // A pickle has no code of its own: what a script or a notebook defined stays there.
    if let Some(line) = line("Can't get attribute").filter(|line| line.contains("__main__'")) {
        let what = line
            .split("attribute '")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        return Some(
            Finding::new(
                Cause::PackageMissing,
                format!("the model needs {}, which the script that saved it defined, and the server doesn't have", what.unwrap_or("code")),
                "save the model with its code beside it (MLflow: code_paths=[…]), or serve it with an image that has the code: --image",
            )
            .seen(line),
        );
    }
    if let Some(line) = first(&[
        "No module named 'numpy._core",
        "No module named '_loss'",
        "Can't get attribute",
        "has an incompatible dtype",
        "Unrecognized serialization format",
        "Check failed: str[0] == '{'",
        "No module named 'sklearn.",
        "No module named 'xgboost.",
        "No module named 'lightgbm.",
        "unsupported pickle protocol",
        "is not a known BitGenerator module",
        "node array from the pickle",
        "object has no attribute '_",
    ]) {
        let mut finding = Finding::new(
            Cause::VersionMismatch,
            "the server's libraries are of other versions than those that saved the model",
            "serve it with a release that has the model's versions (--runtime-version), or save the model anew with the server's",
        );
        for mismatch in versions(log) {
            finding = finding.seen(mismatch);
        }
        return Some(finding.seen(line));
    }
    if let Some(line) = first(&["ddress already in use", "EADDRINUSE"]) {
        return Some(
            Finding::new(
                Cause::Ports,
                "the server can't open a port: something in its Pod, maybe itself, has it already",
                "give each of its ports a number of its own, by its arguments (--arg) or its environment (--env)",
            )
            .seen(line),
        );
    }
    if let Some(line) = line("No module named '") {
        let package = line.split('\'').nth(1).unwrap_or_default();
        let package = package.split('.').next().unwrap_or_default();
        return Some(
            Finding::new(
                Cause::PackageMissing,
                format!("the model needs the package {package}, which the server's image lacks"),
                format!(
                    "serve it with an image that has {package}: --runtime, or --image; or save the model without it"
                ),
            )
            .seen(line),
        );
    }
    if let Some(line) = first(&["No such file or directory: '/mnt/models'", "(/mnt/models)"]) {
        return Some(not_downloaded(state).seen(line));
    }
    None
}

pub(super) fn architecture(evidence: &str) -> Finding {
    Finding::new(
        Cause::Architecture,
        "the image's programs are made for another kind of processor than the node's",
        "use an image for the node's architecture, or choose nodes with --node-selector kubernetes.io/arch=amd64 (or arm64)",
    )
    .seen(evidence)
}

/// A server without the model that KServe should have brought.
pub(super) fn not_downloaded(state: &State) -> Finding {
    let namespace = state.namespace();
    if state.is_control_plane {
        return Finding::new(
            Cause::ControlPlaneNamespace,
            format!(
                "namespace {namespace} has the label `control-plane`, so KServe doesn't look at its Pods, and nobody downloads the model"
            ),
            format!(
                "deploy into another namespace (--namespace), or take the label away: kubectl label namespace {namespace} control-plane-"
            ),
        );
    }
    Finding::new(
        Cause::NoModel,
        "the server started without its model: KServe's webhook didn't add the download",
        format!(
            "check that KServe's webhooks answer (kubectl -n kserve get pods) and are asked about namespace {namespace}, and delete the Pod"
        ),
    )
}

/// What each server looks for.
fn expected(format: &str) -> &'static str {
    match format {
        "sklearn" => "scikit-learn's server wants model.joblib, .pkl or .pickle",
        "xgboost" => "XGBoost's server wants model.json, .ubj or .bst",
        "lightgbm" => "LightGBM's server wants model.bst",
        "mlflow" => "MLflow's server wants the folder that has the file MLmodel",
        "tensorflow" => "TensorFlow Serving wants a folder with a number in it, such as 1/saved_model.pb",
        "onnx" | "triton" => "Triton wants MODEL/config.pbtxt and MODEL/1/",
        "pytorch" => "TorchServe wants config/config.properties and model-store/NAME.mar",
        _ => "the server's own page says what it wants",
    }
}

/// The Secret that the download opens the store with. KServe's webhook refers to it in the container's environment, or, for Google Cloud Storage, mounts it
/// (`pkg/credentials` of 0.20.0).
fn opened_by(pod: &Value) -> Option<&str> {
    let containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    let mut variables = containers
        .filter(|container| container["name"] == "storage-initializer")
        .filter_map(|container| container["env"].as_array())
        .flatten();
    let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let of_variable = variables.find_map(|variable| variable["valueFrom"]["secretKeyRef"]["name"].as_str());
    of_variable.or_else(|| {
        let volume = volumes.find(|volume| volume["name"] == "user-gcp-sa")?;
        volume["secret"]["secretName"].as_str()
    })
}

/// Whether the credentials are of Tidewaiter's making.
fn is_filled(state: &State) -> bool {
    state.service["metadata"]["annotations"]["tidewaiter.dev/filled"].is_string()
}

/// The lines that say which versions differ.
pub(super) fn versions(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.lines() {
        let line = line.trim();
        // MLflow: ` - scikit-learn (current: 1.7.0, required: scikit-learn==1.4.1)`
        if let Some(entry) = line.strip_prefix("- ")
            && let Some((package, rest)) = entry.split_once(" (current: ")
            && let Some((current, required)) = rest.split_once(", required: ")
        {
            let required = required.trim_end_matches(')');
            let required = required.split_once("==").map_or(required, |(_, version)| version);
            found.push(format!(
                "{package}: the model was saved with {required}, the server has {current}"
            ));
        }
        // scikit-learn: `Trying to unpickle estimator X from version 1.7.0 when using version 1.5.2.`
        if line.contains("InconsistentVersionWarning")
            && let Some((_, rest)) = line.split_once(" from version ")
            && let Some((saved, rest)) = rest.split_once(" when using version ")
        {
            let server = rest.split(". ").next().unwrap_or_default().trim_end_matches('.');
            found.push(format!(
                "scikit-learn: the model was saved with {saved}, the server has {server}"
            ));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// How servers say where they listen: those on Uvicorn, Flask, Gunicorn, Go's and Node's habits, Python's own, Triton.
const LISTENS: [&str; 6] = [
    "running on",
    "listening on",
    "listening at",
    "serving on",
    "serving http on",
    "httpservice at",
];
/// Ports for who looks after a server, and not for who asks its model.
const ASIDE: [&str; 3] = ["metrics", "prometheus", "management"];

/// Where a server says that it listens (host, port and the line), if it says so of no place where this port of its Pod leads to.
pub(super) fn listens_elsewhere<'l>(log: &'l str, asked: &str) -> Option<(&'l str, &'l str, &'l str)> {
    let places = log.lines().filter_map(|line| {
        let lower = line.to_ascii_lowercase();
        if ASIDE.iter().any(|word| lower.contains(word)) {
            return None;
        }
        let at = LISTENS
            .iter()
            .find_map(|words| Some(lower.find(words)? + words.len()))?;
        let (host, port) = place(&line[at..])?;
        Some((host, port, line.trim()))
    });
    let places: Vec<_> = places.collect();
    let leads_there = places
        .iter()
        .any(|(host, port, _)| *port == asked && !is_loopback(host));
    places.last().copied().filter(|_| !leads_there)
}

fn is_loopback(host: &str) -> bool {
    ["127.0.0.1", "localhost", "[::1]"].contains(&host)
}

/// `http://0.0.0.0:8081`, `:8081`, `port 8081`, `('0.0.0.0', 8081)`
fn place(text: &str) -> Option<(&str, &str)> {
    text.split_whitespace().find_map(|word| {
        let word = word.split_once("://").map_or(word, |(_, rest)| rest);
        let word = word.split('/').next().unwrap_or(word);
        let word = word.trim_end_matches(|last: char| !last.is_ascii_digit());
        let (host, port) = match word.rsplit_once(':') {
            Some(place) => place,
            // Fewer digits are a number of something else.
            None => Some(word).filter(|word| word.len() >= 4).map(|word| ("", word))?,
        };
        let is_port = (2..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        is_port.then_some((host, port))
    })
}

/// The last line that tells of an error, without its time; else the last one at all.
pub(super) fn last_error(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let telling = lines
        .iter()
        .rev()
        .find(|line| line.contains("ERROR") || line.contains("Error"));
    let line = telling.or(lines.last()).copied().unwrap_or_default();
    let line = line.split_once("ERROR ").map_or(line, |(_, rest)| rest);
    // `[entry:<module>():28] Storage initialization failed: …`
    let line = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, rest)) => rest,
        None => line,
    };
    line.trim().chars().take(300).collect()
}

/// The flags that bring keys for a store, where there are some.
fn flags(uri: &str) -> &'static str {
    if uri.starts_with("s3:") {
        " (--aws-access-key-id=…, --aws-secret-access-key=@FILE, --s3-endpoint=…)"
    } else {
        ""
    }
}
