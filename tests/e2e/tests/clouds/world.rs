//! The servers, and the command as a user of each runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::HttpRequest;
use object_store::path::Path as Key;
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreExt as _};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tidewaiter_e2e::server::command_binary;
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::processes::Processes;
use tidewaiter_ground::tls::{Authority, base64};
use tidewaiter_ground::tools::Module;
use tidewaiter_ground::{host, minio, npm, python, sandbox};
use tokio::runtime::Runtime;

use crate::microsoft;
use crate::tokens::{ACCOUNT, Tokens};

/// A bucket, and Azure's container.
pub(crate) const BUCKET: &str = "models";
/// A bucket that nobody may look into without a key.
pub(crate) const CLOSED: &str = "closed";
/// Azure's storage account.
const AZURE_ACCOUNT: &str = "ml";

const GOOGLE: &str = "storage.googleapis.com";
const AZURE: &str = "ml.blob.core.windows.net";
/// The one token service for what `gcloud` keeps, the other for keys of service accounts; and Microsoft's.
const TOKENS: [&str; 3] = ["accounts.google.com", "oauth2.googleapis.com", microsoft::HOST];

const FAKE_GCS_AT: &str = "127.0.0.1";
const AZURITE_AT: &str = "127.0.0.2";
const MINIO_AT: &str = "127.0.0.3";
const TOKENS_AT: &str = "127.0.0.4";

const MINIO_KEY: &str = "minioadmin";
const STARTS: Duration = Duration::from_mins(2);

/// The packages of KServe's storage initializer.
pub(crate) const INITIALIZER: &str = "storage-initializer-0.20.0";

/// Which server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    /// Google's store, as fake-gcs-server rebuilt it: all of the JSON interface, and of the XML one what reads. It takes any token.
    Google,
    /// `MinIO` under the name of Google's store: Google's XML interface, by which the command writes, is S3's but for signatures. Who brings a token is nobody to it, and
    /// one bucket is open to everybody.
    Interoperable,
    /// Azure's store, by Azurite.
    Azure,
}

impl Cloud {
    /// Below the bucket.
    pub(crate) fn uri(self, path: &str) -> String {
        match self {
            Self::Google | Self::Interoperable => format!("gs://{BUCKET}/{path}"),
            Self::Azure => format!("https://{AZURE}/{BUCKET}/{path}"),
        }
    }
}

/// Builds what a world needs, outside of any namespace.
pub(crate) fn prepare(cache: &Cache) -> Result<()> {
    Module::FakeGcs.build(cache)?;
    Module::Minio.build(cache)?;
    npm::packages(cache, "azurite")?;
    python::site(cache, INITIALIZER).map(drop)
}

/// Everything that runs, until the namespaces end.
pub(crate) struct World {
    /// To whom tokens were given.
    pub(crate) tokens: Tokens,
    /// Azure's key.
    pub(crate) azure_key: String,
    cache: Cache,
    processes: Processes,
    runtime: Runtime,
    folder: PathBuf,
    command: PathBuf,
}

impl World {
    /// Starts all of it, inside of the namespaces.
    pub(crate) fn start(cache: &Cache) -> Result<Self> {
        // Tests that are built together share the features of rustls.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = sandbox::inside().context("the clouds' names are theirs outside of the namespaces")?;
        host::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let processes = Processes::new(&folder)?;
        let authority = Authority::new("clouds")?;
        let pair = authority.issue(&[GOOGLE, AZURE, TOKENS[0], TOKENS[1], TOKENS[2], MINIO_AT])?;
        fs::create_dir_all(folder.join("home"))?;
        fs::write(folder.join("ca.pem"), authority.certificate())?;
        fs::write(folder.join("public.crt"), &pair.certificate)?;
        fs::write(folder.join("private.key"), &pair.key)?;
        let hosts = |google: &str| {
            let tokens = TOKENS.join(" ");
            format!("127.0.0.1 localhost\n{google} {GOOGLE}\n{AZURITE_AT} {AZURE}\n{TOKENS_AT} {tokens}\n")
        };
        fs::write(folder.join("hosts"), hosts(FAKE_GCS_AT))?;
        fs::write(folder.join("hosts-with-minio"), hosts(MINIO_AT))?;
        host::run(
            Command::new("mount")
                .arg("--bind")
                .arg(folder.join("hosts"))
                .arg("/etc/hosts"),
        )?;
        let world = Self {
            tokens: Tokens::start(&format!("{TOKENS_AT}:443"), &pair)?,
            azure_key: base64(&random(64)?),
            cache: cache.clone(),
            processes,
            runtime: Runtime::new()?,
            command: command_binary()?,
            folder,
        };
        fs::write(world.google_key_file(), world.google_key()?.to_string())?;
        world.start_google()?;
        // After it: MinIO takes its port on 127.0.0.1 as well, where that is free.
        world.start_minio()?;
        world.start_azure()?;
        Ok(world)
    }

    fn start_google(&self) -> Result<()> {
        let program = Module::FakeGcs.build(&self.cache)?.join("fake-gcs-server");
        self.processes.start(
            "fake-gcs-server",
            Command::new(program)
                .args(["-backend", "memory", "-scheme", "https", "-public-host", GOOGLE])
                .args(["-host", FAKE_GCS_AT, "-port", "443"])
                .args(["-external-url", &format!("https://{GOOGLE}")])
                .arg("-cert-location")
                .arg(self.folder.join("public.crt"))
                .arg("-private-key-location")
                .arg(self.folder.join("private.key")),
        )?;
        let web = self.web()?;
        let bucket = || {
            let made = web
                .post(format!("https://{GOOGLE}/storage/v1/b?project=ml"))
                .header("content-type", "application/json")
                .body(json!({"name": BUCKET}).to_string());
            self.runtime.block_on(made.send())
        };
        self.processes
            .wait("a bucket of fake-gcs-server", STARTS, || succeeded(bucket()))
    }

    fn start_minio(&self) -> Result<()> {
        let data = self.minio_data();
        fs::create_dir_all(data.join(BUCKET))?;
        fs::create_dir_all(data.join(CLOSED))?;
        let certificates = self.folder.join("minio-certificates");
        fs::create_dir_all(&certificates)?;
        for file in ["public.crt", "private.key"] {
            fs::copy(self.folder.join(file), certificates.join(file))?;
        }
        let program = Module::Minio.build(&self.cache)?.join("minio");
        self.processes.start(
            "minio",
            minio::server(&mut Command::new(program), MINIO_KEY, &data, &format!("{MINIO_AT}:443"))
                .arg("--certs-dir")
                .arg(certificates),
        )?;
        // Before it has read what it knew of its buckets, a policy is taken, and lost with that reading.
        let web = self.web()?;
        let up = || {
            let asked = web.get(format!("https://{MINIO_AT}/minio/health/cluster"));
            self.runtime.block_on(asked.send())
        };
        self.processes.wait("MinIO", STARTS, || succeeded(up()))?;
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": ["s3:*"],
            "Resource": [format!("arn:aws:s3:::{BUCKET}"), format!("arn:aws:s3:::{BUCKET}/*")],
        }]});
        let url = format!("https://{MINIO_AT}/{BUCKET}?policy");
        let key = AwsCredential {
            key_id: MINIO_KEY.to_owned(),
            secret_key: MINIO_KEY.to_owned(),
            token: None,
        };
        let opened = || {
            self.send(Method::PUT, &url, policy.to_string(), |request| {
                AwsAuthorizer::new(&key, "s3", "us-east-1").try_authorize(request, None)
            })
        };
        self.processes
            .wait("a bucket of MinIO's that is open to all", STARTS, || {
                opened().is_ok_and(|status| status.is_success())
            })
    }

    fn start_azure(&self) -> Result<()> {
        let server = npm::packages(&self.cache, "azurite")?.join("azurite/dist/src/blob/main.js");
        self.processes.start(
            "azurite",
            Command::new("node")
                .env("AZURITE_ACCOUNTS", format!("{AZURE_ACCOUNT}:{}", self.azure_key))
                .arg(server)
                .args(["--blobHost", AZURITE_AT, "--blobPort", "443", "--disableTelemetry"])
                // It is older than the interface that KServe's initializer speaks.
                .arg("--skipApiVersionCheck")
                .args(["--oauth", "basic"])
                .arg("--location")
                .arg(self.folder.join("azurite"))
                .arg("--cert")
                .arg(self.folder.join("public.crt"))
                .arg("--key")
                .arg(self.folder.join("private.key")),
        )?;
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(&self.azure_key)?);
        let url = format!("https://{AZURE}/{BUCKET}?restype=container");
        let container = || {
            self.send(Method::PUT, &url, String::new(), |request| {
                AzureAuthorizer::new(&key, AZURE_ACCOUNT).try_authorize(request)
            })
        };
        self.processes.wait("a container of Azurite's", STARTS, || {
            container().is_ok_and(|status| status == StatusCode::CREATED)
        })
    }

    fn send(
        &self,
        method: Method,
        url: &str,
        body: String,
        sign: impl FnOnce(&mut HttpRequest) -> object_store::Result<()>,
    ) -> Result<StatusCode> {
        let mut signed = HttpRequest::new(body.clone().into());
        *signed.method_mut() = method.clone();
        *signed.uri_mut() = url.parse()?;
        // Part of what is signed.
        signed
            .headers_mut()
            .insert("content-length", body.len().to_string().parse()?);
        sign(&mut signed)?;
        let request = self
            .web()?
            .request(method, url)
            .headers(signed.headers().clone())
            .body(body);
        Ok(self.runtime.block_on(request.send())?.status())
    }

    fn web(&self) -> Result<Client> {
        let authority = reqwest::Certificate::from_pem(&fs::read(self.authority())?)?;
        Ok(Client::builder().tls_certs_only([authority]).no_proxy().build()?)
    }

    /// What signed the servers' certificates.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The home of who runs the command.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Where `MinIO` keeps what it has.
    pub(crate) fn minio_data(&self) -> PathBuf {
        self.folder.join("minio-data")
    }

    /// A key of a service account, as Google gives it out.
    pub(crate) fn google_key_file(&self) -> PathBuf {
        self.folder.join("google-key.json")
    }

    fn google_key(&self) -> Result<Value> {
        let site = python::site(&self.cache, INITIALIZER)?;
        let key = host::output(python::command(&[&site])?.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/rsa_key.py")))?;
        Ok(json!({
            "type": "service_account",
            "project_id": "ml",
            "private_key_id": "1",
            "private_key": key,
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": format!("https://{}/token", TOKENS[1]),
        }))
    }

    /// The packages of KServe's storage initializer.
    pub(crate) fn initializer(&self) -> Result<PathBuf> {
        python::site(&self.cache, INITIALIZER)
    }

    /// The command, without a terminal and with nothing of the machine's own settings: a home, an authority, and the key that a user of this cloud has.
    pub(crate) fn command(&self, cloud: Cloud) -> Command {
        let mut command = if cloud == Cloud::Interoperable {
            // In its own mounts another server has the name.
            let script = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "sh", "-c", script, "sh"])
                .arg(self.folder.join("hosts-with-minio"))
                .arg(&self.command);
            command
        } else {
            Command::new(&self.command)
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("SSL_CERT_FILE", self.authority())
            .stdin(Stdio::null());
        match cloud {
            Cloud::Google | Cloud::Interoperable => {
                command.env("GOOGLE_APPLICATION_CREDENTIALS", self.google_key_file())
            }
            Cloud::Azure => command.env("AZURE_STORAGE_ACCESS_KEY", &self.azure_key),
        };
        command
    }

    /// An upload below `deployed/`, as this command.
    pub(crate) fn uploading(&self, cloud: Cloud, model: &Path, name: &str) -> Command {
        let mut command = self.command(cloud);
        command
            .arg("upload")
            .arg(model)
            .args(["--to", &cloud.uri("deployed/"), "--name", name, "-o", "json"]);
        command
    }

    /// Uploads it, and gives back what is printed for a program.
    pub(crate) fn upload(&self, cloud: Cloud, model: &Path, name: &str) -> Result<Value> {
        let Output { status, stdout, stderr } = self.uploading(cloud, model, name).output()?;
        ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
        Ok(serde_json::from_slice(&stdout)?)
    }

    /// What the command writes to, as its server's own users see it.
    fn store(&self, cloud: Cloud) -> Result<Arc<dyn ObjectStore>> {
        let options = ClientOptions::new().with_root_certificate(Certificate::from_pem(&fs::read(self.authority())?)?);
        let store: Arc<dyn ObjectStore> = match cloud {
            Cloud::Google => bail!("fake-gcs-server is written to by the JSON interface alone"),
            Cloud::Interoperable => Arc::new(
                AmazonS3Builder::new()
                    .with_endpoint(format!("https://{MINIO_AT}"))
                    .with_region("us-east-1")
                    .with_bucket_name(BUCKET)
                    .with_access_key_id(MINIO_KEY)
                    .with_secret_access_key(MINIO_KEY)
                    .with_client_options(options)
                    .build()?,
            ),
            Cloud::Azure => Arc::new(
                MicrosoftAzureBuilder::new()
                    .with_account(AZURE_ACCOUNT)
                    .with_container_name(BUCKET)
                    .with_access_key(&self.azure_key)
                    .with_client_options(options)
                    .build()?,
            ),
        };
        Ok(store)
    }

    /// The keys below a folder, in their order, with when each was written.
    pub(crate) fn written(&self, cloud: Cloud, folder: &str) -> Result<BTreeMap<String, Timestamp>> {
        let store = self.store(cloud)?;
        let listed = store.list(Some(&Key::from(folder))).try_collect::<Vec<_>>();
        self.runtime
            .block_on(listed)?
            .into_iter()
            .map(|object| {
                let at = object.last_modified.timestamp_millis();
                Ok((object.location.to_string(), Timestamp::from_millisecond(at)?))
            })
            .collect()
    }

    /// The keys below a folder.
    pub(crate) fn keys(&self, cloud: Cloud, folder: &str) -> Result<Vec<String>> {
        Ok(self.written(cloud, folder)?.into_keys().collect())
    }

    /// An object's content.
    pub(crate) fn read(&self, cloud: Cloud, key: &str) -> Result<Vec<u8>> {
        let store = self.store(cloud)?;
        let key = Key::from(key);
        let read = self.runtime.block_on(async { store.get(&key).await?.bytes().await });
        Ok(read.with_context(|| format!("{key} can't be read"))?.to_vec())
    }

    /// Writes an object.
    pub(crate) fn put(&self, cloud: Cloud, key: &str, content: &[u8]) -> Result<()> {
        if cloud == Cloud::Google {
            let name = key.replace('/', "%2F");
            let url = format!("https://{GOOGLE}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}");
            let request = self.web()?.post(url).body(content.to_vec());
            let answer = self.runtime.block_on(request.send())?;
            ensure!(
                answer.status().is_success(),
                "{key} can't be written: {}",
                answer.status()
            );
            return Ok(());
        }
        let store = self.store(cloud)?;
        let written = self
            .runtime
            .block_on(store.put(&Key::from(key), content.to_vec().into()));
        written.map(drop).with_context(|| format!("{key} can't be written"))
    }

    /// Writes an object of one part.
    pub(crate) fn put_in_parts(&self, cloud: Cloud, key: &str, content: &[u8]) -> Result<()> {
        let (store, key) = (self.store(cloud)?, Key::from(key));
        let written = self.runtime.block_on(async {
            let mut upload = store.put_multipart(&key).await?;
            upload.put_part(content.to_vec().into()).await?;
            upload.complete().await
        });
        written.map(drop).with_context(|| format!("{key} can't be written"))
    }

    /// Of the requests that Azurite noted, those that write and have this text in their path, the first first.
    pub(crate) fn writes_to_azure(&self, text: &str) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.processes.log("azurite"))?;
        let lines = log.lines().filter(|line| line.contains("PUT ") && line.contains(text));
        Ok(lines.map(str::to_owned).collect())
    }
}

fn succeeded(answer: reqwest::Result<reqwest::Response>) -> bool {
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Bytes that nobody foresees.
pub(crate) fn random(bytes: usize) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random)
}
