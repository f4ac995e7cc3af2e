//! A zip file, the same bytes for the same content: what is in it has no dates, and lies in the order it is named in.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// What is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// In this order.
    pub members: Vec<Member>,
}

/// One file of an [`Archive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// Written here.
    Generated {
        /// Its path in the archive.
        name: String,
        /// What is in it.
        content: Vec<u8>,
    },
    /// A file of this machine.
    Local {
        /// Its path in the archive.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A file of the source.
    Source {
        /// Its path in the archive.
        name: String,
        /// Its path in the source.
        path: String,
    },
}

/// Writes an archive. Memory stays flat: files are copied through. `source` is the source's folder, or its only file.
pub(crate) fn pack(archive: &Archive, source: &Path, to: &Path) -> io::Result<()> {
    let mut zip = ZipWriter::new(io::BufWriter::new(File::create(to)?));
    for member in &archive.members {
        // Weights don't get smaller, and a server has to unpack them at every start.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        match member {
            Member::Generated { name, content } => {
                zip.start_file(name.as_str(), options)?;
                zip.write_all(content)?;
            }
            Member::Local { name, file } => copy(&mut zip, name, file, options)?,
            Member::Source { name, path } => {
                copy(&mut zip, name, &crate::source::local_file(source, path), options)?;
            }
        }
    }
    zip.finish()?.into_inner()?.sync_data()
}

fn copy(
    zip: &mut ZipWriter<io::BufWriter<File>>,
    name: &str,
    file: &Path,
    options: SimpleFileOptions,
) -> io::Result<()> {
    let mut opened =
        File::open(file).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    let large = opened.metadata()?.len() >= u64::from(u32::MAX);
    zip.start_file(name, options.large_file(large))?;
    io::copy(&mut opened, zip)?;
    Ok(())
}
