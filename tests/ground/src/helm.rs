//! The real helm, and images of what its charts run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster::{Cluster, Said};
use crate::tools::Module;
use crate::{host, images, node};

impl Cluster {
    /// helm as the administrator, with folders of the run's own: what a person has configured for theirs doesn't reach a test.
    pub fn helm_command(&self) -> Result<Command> {
        let mut command = Command::new(Module::Helm.build(self.cache())?.join("helm"));
        command.env("KUBECONFIG", self.kubeconfig());
        for (variable, name) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(variable, self.folder().join("helm").join(name));
        }
        Ok(command)
    }

    /// helm with these arguments, whatever comes of it.
    pub fn try_helm(&self, arguments: &[&str]) -> Result<Said> {
        let done = self.helm_command()?.args(arguments).output();
        Ok(Said::from(done.context("can't run helm")?))
    }

    /// helm with these arguments: what it wrote to standard output.
    ///
    /// # Errors
    /// With what it wrote to standard error, where it fails.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let said = self.try_helm(arguments)?;
        if !said.ok {
            bail!("helm {}: {}", arguments.join(" "), said.stderr.trim());
        }
        Ok(said.stdout)
    }

    /// Gives the node an image with this program, which is its entry point, and a folder's files where they are said to go. By another name each time: a Pod's image is not replaced under it.
    pub fn load_program(&self, image: &str, program: &Path, beside: Option<(&Path, &str)>) -> Result<()> {
        let work = tempfile::tempdir_in(self.folder())?;
        let archive = images::of_program(work.path(), image, program, beside)?;
        self.load_archive(&archive)
            .with_context(|| format!("the image {image}"))
    }

    /// Gives the node the images of an archive, by the names that stand in it.
    pub fn load_archive(&self, archive: &Path) -> Result<()> {
        host::run(node::ctr_here(self.cache())?.args(["image", "import"]).arg(archive))
    }

    /// Gives an image that the node has a further name, in this repository and by its digest, and says it: `docker.io/house/mlserver@sha256:…`.
    pub fn name_by_digest(&self, image: &str, repository: &str) -> Result<String> {
        let ctr = || node::ctr_here(self.cache());
        let listed = host::output(ctr()?.args(["images", "list", &format!("name=={image}")]))?;
        let digest = listed.split_whitespace().find(|word| word.starts_with("sha256:"));
        let name = format!("{repository}@{}", digest.with_context(|| format!("no image {image}"))?);
        host::run(ctr()?.args(["images", "tag", "--local", image, &name]))?;
        Ok(name)
    }
}
