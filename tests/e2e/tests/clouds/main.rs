//! Google Cloud Storage and Azure's blob storage: servers that speak their protocols, under the clouds' own names in a network of the test's own. The command
//! uploads to them, policies look into them, and KServe's storage initializer downloads from them, each with the settings that it has on any machine.
//!
//! ```text
//! storage.googleapis.com      fake-gcs-server, to read from; MinIO for uploads, by the interface that Google shares with S3
//! accounts.google.com         who gives out tokens, played (tokens.rs)
//! ml.blob.core.windows.net    Azurite, Microsoft's own
//! ```

mod initializer;
mod microsoft;
mod reviews;
mod tokens;
mod uploads;
mod world;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use tidewaiter_e2e::runner::{ends, trial};
use tidewaiter_e2e::server::{COMMAND, command_binary};
use tidewaiter_ground::cache::Cache;
use tidewaiter_ground::{host, sandbox};

use world::World;

type Test = (&'static str, fn(&World) -> Result<()>);

const TESTS: &[Test] = &[
    (
        "a_folder_is_uploaded_to_google_once_and_its_manifest_last",
        uploads::to_google,
    ),
    (
        "a_folder_is_uploaded_to_azure_once_and_its_manifest_last",
        uploads::to_azure,
    ),
    ("a_large_file_goes_to_google_in_parts", uploads::in_parts_to_google),
    ("a_large_file_goes_to_azure_in_blocks", uploads::in_blocks_to_azure),
    (
        "parts_that_google_has_are_not_sent_again_after_a_kill",
        uploads::resumed_to_google,
    ),
    (
        "blocks_that_azure_has_are_not_sent_again_after_a_kill",
        uploads::resumed_to_azure,
    ),
    (
        "blocks_that_azure_no_longer_has_are_sent_again",
        uploads::forgotten_by_azure,
    ),
    ("azure_saying_no_is_one_sentence", uploads::refused_by_azure),
    ("google_saying_no_is_one_sentence", uploads::refused_by_google),
    ("what_gcloud_wrote_opens_googles_store", uploads::by_gcloud),
    (
        "a_service_principal_opens_azures_store_and_a_wrong_secret_does_not",
        uploads::by_a_service_principal,
    ),
    (
        "policies_look_into_googles_store_with_the_backends_key",
        reviews::of_google,
    ),
    (
        "policies_look_into_azures_store_with_the_backends_key",
        reviews::of_azure,
    ),
    (
        "policies_look_into_azures_store_as_a_service_principal",
        reviews::of_azure_as_a_service_principal,
    ),
    ("a_store_that_refuses_the_backends_key_is_a_warning", reviews::forbidden),
    (
        "kserves_initializer_downloads_from_google_with_the_secret_that_the_command_makes",
        initializer::from_google,
    ),
    (
        "kserves_initializer_downloads_from_azure_with_the_secret_that_the_command_makes",
        initializer::from_azure,
    ),
    (
        "kserves_initializer_downloads_from_azure_as_a_service_principal",
        initializer::from_azure_as_a_service_principal,
    ),
];

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let cache = Cache::open()?;
    if sandbox::inside().is_none() {
        host::require(false)?;
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        if host::find("npm").is_none() && !in_ci {
            eprintln!("not tested: npm is not there, and Azurite is installed by it (Node.js 20 or newer)");
            return Ok(ExitCode::SUCCESS);
        }
        world::prepare(&cache)?;
        let mut command_is = OsString::from(format!("{COMMAND}="));
        command_is.push(command_binary()?);
        let mut again = vec!["env".into(), command_is, std::env::current_exe()?.into_os_string()];
        again.extend(std::env::args_os().skip(1));
        let status = sandbox::enter(&cache, None, &again)?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    let world = Arc::new(World::start(&cache)?);
    let trials = TESTS.iter().map(|&(name, test)| trial(name, test, Some(&world)));
    Ok(libtest_mimic::run(arguments, trials.collect()).exit_code())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They read in the servers' logs what came there.
    arguments.test_threads = Some(1);
    if arguments.list {
        let trials = TESTS.iter().map(|(name, _)| Trial::test(*name, || Ok(())));
        return libtest_mimic::run(&arguments, trials.collect()).exit_code();
    }
    ends(run(&arguments))
}
