//! The built-in policies as the image holds them: compiled for its machine, so that a Pod's first start compiles none.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use tidewaiter_builtin::POLICIES;

use crate::layer::File;

/// Where the webhook looks for them, from the root.
pub const FOLDER: &str = "usr/share/tidewaiter/policies";

/// One file for each policy, for the machine that rustc calls `target`.
///
/// # Errors
/// A machine that isn't compiled for here.
pub fn compiled(target: &str) -> Result<Vec<File>> {
    let files = POLICIES.iter().map(|policy| {
        let (name, content) = tidewaiter_engine::compile_for(target, policy.component)
            .with_context(|| format!("the policy {} for {target}", policy.name))?;
        Ok(File::readable(format!("{FOLDER}/{name}"), content))
    });
    files.collect()
}

/// Whether these are the policies that the program holds: it would compile its own, were they others.
///
/// # Errors
/// With the policy that isn't.
pub fn check(program: &[u8]) -> Result<()> {
    for policy in POLICIES {
        ensure!(
            memmem::find(program, policy.component).is_some(),
            "the program holds another build of the policy {}: what is compiled here would not be used",
            policy.name
        );
    }
    Ok(())
}

/// Writes them into a folder, for this machine.
///
/// # Errors
/// The folder can't be written.
pub fn write(folder: &Path, target: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    for file in compiled(target)? {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        let place = folder.join(name);
        std::fs::write(&place, &file.content).with_context(|| format!("can't write {}", place.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::target;
    use crate::oci::Architecture;

    #[test]
    fn every_policy_is_compiled_for_both_machines() {
        for architecture in Architecture::ALL {
            let files = compiled(target(architecture)).unwrap();
            assert_eq!(files.len(), POLICIES.len());
            assert!(files.iter().all(|file| file.mode == 0o644 && file.content.len() > 1000));
        }
        assert!(compiled("sparc64-unknown-linux-gnu").is_err());
    }

    #[test]
    fn another_build_of_a_policy_is_found_out() {
        let whole: Vec<u8> = POLICIES.iter().flat_map(|policy| policy.component.to_vec()).collect();
        check(&whole).unwrap();
        let refused = check(&whole[1..]).unwrap_err().to_string();
        assert!(refused.contains(POLICIES[0].name), "{refused}");
    }
}
