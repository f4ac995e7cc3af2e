//! Which tests run: in the gate and by `cargo xtask test --all`, with each release of KServe, with Tidewaiter and without.

use tidewaiter_e2e::runner;
use tidewaiter_ground::tools::Kserve;

use crate::World;

/// What runs with the oldest release in the gate: a service's way from the manifest or the command to its answer, and what differs between the two.
const OLDEST: [&str; 9] = [
    "a_bare_manifest_finds_no_runtime_without_tidewaiter",
    "fills_a_bare_manifest_before_kserve_too",
    "what_kserves_python_sdk_sends_answers",
    "deploy_brings_credentials_and_again_does_nothing",
    "deploy_leaves_credentials_to_tidewaiter",
    "deploy_tells_a_wrong_key_as_credentials",
    "served_one_column_of_mlflow",
    "using_canaries_as_kserve_has_them",
    "using_stop_as_kserve_has_it",
];

/// What is of the newest release alone: its kinds, its words for modes, canaries and stopping, and the images of its servers. Of the oldest's own the ground has
/// `MLServer` 1.5.0 alone.
const NEWEST: [&str; 32] = [
    "a_model_with_a_secret_made_by_hand_answers",
    "an_llm_gets_its_credentials_on_its_metadata",
    "a_service_with_a_cached_model_is_left_alone",
    "pod_security_that_stops_a_service_is_told_of_and_met",
    "a_namespace_that_kserve_passes_over_is_told_of",
    "pipeline_by_the_guide_the_champion_answers_as_in_python",
    "pipeline_a_model_of_mlflow_3_answers_by_each_of_its_names",
    "pipeline_artifacts_behind_the_tracking_server_are_copied_or_used_where_they_lie",
    "deploy_tells_a_server_without_a_model",
    "deploy_has_every_wish_checked_and_stores_nothing",
    "failing_a_server_out_of_memory_is_told_with_its_limit",
    "failing_a_download_out_of_memory_is_told_with_who_limits_it",
    "failing_libraries_of_other_versions_are_told_with_both",
    "failing_code_that_stayed_in_a_script_is_named",
    "served_a_file_of_xgboost",
    "served_a_transformer_before_its_predictor",
    "served_an_explainer_beside_its_predictor",
    "served_by_an_image_of_ones_own",
    "served_a_graph_of_two_steps",
    "a_model_of_older_libraries_answers_from_an_older_image",
    "a_model_that_would_answer_wrongly_is_refused",
    "a_model_of_later_tools_ends_the_server_without_tidewaiter_and_is_told_of_with_it",
    "a_file_of_skops_is_loaded_by_nobody_without_tidewaiter_and_told_of_with_it",
    "a_transformer_that_asks_in_another_protocol_gets_no_answer_without_tidewaiter_and_is_refused_with_it",
    "what_zenml_sends_answers",
    "an_old_xgboost_shape_answers",
    "a_deploy_sends_a_model_that_policies_look_for",
    "using_stop_start_scale_and_delete",
    "using_a_canary_answers_and_is_promoted",
    "using_promote_pins_no_later_model",
    "using_predict_answers_as_the_model_by_every_protocol",
    "using_revisions_as_knative_has_them",
];

/// What the gate has no time for: `cargo xtask test --all` runs them.
const LONG: [&str; 30] = [
    "a_key_of_a_namespace_that_is_gone_is_revoked",
    "deploys_at_once_lose_none_without_a_word",
    "a_deploy_that_waits_is_told_of_a_later_one",
    "a_deploy_interrupted_while_it_waits_leaves_a_whole_service",
    "a_deploy_interrupted_while_it_uploads_leaves_nothing",
    "a_deploy_killed_at_any_moment_serves_nothing_half_written",
    "a_deploy_that_is_refused_has_uploaded_nothing",
    "pipeline_a_tracking_server_with_users_lets_in_whom_it_knows",
    "pipeline_a_model_of_mlflow_3_answers_by_each_of_its_names",
    "pipeline_artifacts_behind_the_tracking_server_are_copied_or_used_where_they_lie",
    "failing_a_download_out_of_memory_is_told_with_who_limits_it",
    "failing_code_that_stayed_in_a_script_is_named",
    "failing_before_a_node_has_the_pod_is_told",
    "failing_a_key_that_tidewaiter_brought_names_its_backend",
    "using_status_and_logs_of_what_runs_and_of_what_fails",
    "using_stop_start_scale_and_delete",
    "using_a_canary_answers_and_is_promoted",
    "using_every_ingress_leads_to_the_model",
    "a_model_of_later_tools_ends_the_server_without_tidewaiter_and_is_told_of_with_it",
    "a_file_of_skops_is_loaded_by_nobody_without_tidewaiter_and_told_of_with_it",
    "a_transformer_that_asks_in_another_protocol_gets_no_answer_without_tidewaiter_and_is_refused_with_it",
    "a_model_larger_than_the_disk_is_evicted_without_tidewaiter_and_told_of_with_it",
    "files_of_other_systems_and_a_wheel_of_another_machine_do_not_load_and_are_told_of",
    "served_a_folder_of_sklearn",
    "served_a_file_of_xgboost",
    "served_one_column_of_mlflow",
    "served_a_function",
    "served_a_transformer_before_its_predictor",
    "served_an_explainer_beside_its_predictor",
    "served_by_an_image_of_ones_own",
];

/// What comes to the same end where Tidewaiter reviews the namespace and where it doesn't, and is shown twice, but for the gate.
const WITH_AND_WITHOUT: [&str; 19] = [
    "deploy_has_every_wish_checked_and_stores_nothing",
    "served_a_folder_of_sklearn",
    "served_a_file_of_xgboost",
    "served_one_column_of_mlflow",
    "served_a_function",
    "served_a_transformer_before_its_predictor",
    "served_an_explainer_beside_its_predictor",
    "served_by_an_image_of_ones_own",
    "served_a_graph_of_two_steps",
    "served_no_more_its_model_leaves_the_store_and_others_stay",
    "using_predict_answers_as_the_model_by_every_protocol",
    "using_stop_start_scale_and_delete",
    "using_a_canary_answers_and_is_promoted",
    "using_every_ingress_leads_to_the_model",
    "failing_a_server_out_of_memory_is_told_with_its_limit",
    "failing_a_download_out_of_memory_is_told_with_who_limits_it",
    "failing_code_that_stayed_in_a_script_is_named",
    "failing_a_program_of_another_machine_is_told_with_its_node",
    "failing_at_the_store_is_told_apart",
];

/// A test, in a world.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) needs_node: bool,
    pub(crate) test: fn(&World) -> anyhow::Result<()>,
    /// The world's own.
    pub(crate) reviewed: bool,
}

/// What runs with a release.
pub(crate) fn with(kserve: Kserve) -> Vec<Run> {
    let everything = runner::everything();
    let runs_with = |name: &str| match (kserve, everything) {
        (Kserve::V0_20, everything) => everything || !LONG.contains(&name),
        (Kserve::V0_15, true) => !NEWEST.contains(&name),
        (Kserve::V0_15, false) => OLDEST.contains(&name),
    };
    let mut runs = Vec::new();
    for (name, needs_node, test) in crate::tests() {
        if !runs_with(name) {
            continue;
        }
        let run = |name: String, reviewed| Run {
            name,
            needs_node,
            test,
            reviewed,
        };
        runs.push(run(name.to_owned(), false));
        if everything && WITH_AND_WITHOUT.contains(&name) {
            runs.push(run(format!("{name}_where_tidewaiter_reviews"), true));
        }
    }
    runs
}
