//! A TLS Secret as the kubelet mounts it: the files are symlinks through `..data`, which is swapped for another folder in one step.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use tidewaiter_ground::tls::Pair;

/// The volume's folder.
#[derive(Debug)]
pub struct SecretVolume {
    folder: PathBuf,
    version: AtomicU32,
}

impl SecretVolume {
    /// A volume with this pair in it.
    pub fn mount(folder: &Path, pair: &Pair) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let volume = Self {
            folder: folder.to_owned(),
            version: AtomicU32::new(0),
        };
        volume.update(pair)?;
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), folder.join(name))?;
        }
        Ok(volume)
    }

    /// Another pair, as when the Secret has changed.
    pub fn update(&self, pair: &Pair) -> Result<()> {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let content = PathBuf::from(format!("..version-{version}"));
        fs::create_dir(self.folder.join(&content))?;
        fs::write(self.folder.join(&content).join("tls.crt"), &pair.certificate)?;
        fs::write(self.folder.join(&content).join("tls.key"), &pair.key)?;
        let (link, data) = (self.folder.join("..data_tmp"), self.folder.join("..data"));
        symlink(&content, &link)?;
        let before = fs::read_link(&data).ok();
        fs::rename(&link, &data)?;
        if let Some(before) = before {
            fs::remove_dir_all(self.folder.join(before))?;
        }
        Ok(())
    }

    /// The certificate's path.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("tls.crt")
    }

    /// The key's path.
    pub fn key(&self) -> PathBuf {
        self.folder.join("tls.key")
    }
}
