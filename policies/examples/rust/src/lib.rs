//! Every service belongs to a team, loads an allowed model, and stays small.

use tidewaiter_policy::{Request, Verdict, cluster, policy, settings};

settings! {
    /// What the admin may set.
    pub struct Settings {
        /// Models come from below one of these; none allows all
        #[setting(shown)]
        pub prefixes: Vec<String> = Vec::new(),
        /// The most replicas of one service
        #[setting(shown, minimum = 1)]
        pub max_replicas: i64 = 10,
    }
}

policy!(pub HouseRules, review, Settings);

fn review(request: &Request, Settings { prefixes, max_replicas }: &Settings) -> Verdict {
    let object = request.view();
    let mut verdict = Verdict::admit();
    if object.label("team").is_none() {
        let place = "/metadata/labels/team";
        verdict = if let Some(team) = cluster::namespace_label("team") {
            verdict.fill(place, team, "the namespace belongs to this team")
        } else {
            let name = &request.name;
            let message = format!("{name} belongs to no team; label it, or its namespace, with `team`");
            verdict.deny("no-team", message, Some(place))
        };
    }
    let Some(predictor) = object.predictor() else {
        return verdict;
    };
    if let Some(uri) = predictor.model().and_then(|model| model.storage_uri())
        && !prefixes.is_empty()
        && !prefixes.iter().any(|prefix| uri.starts_with(prefix))
    {
        let message = format!("{uri} is not below {}; move the model there", prefixes.join(", "));
        verdict = verdict.deny("model-not-allowed", message, Some("/spec/predictor/model/storageUri"));
    }
    if let Some(asked) = predictor.max_replicas().filter(|asked| asked > max_replicas) {
        let message = format!("maxReplicas is {asked}, and {max_replicas} is the most; ask for fewer");
        verdict = verdict.deny("too-many-replicas", message, Some("/spec/predictor/maxReplicas"));
    }
    let place = "/spec/predictor/minReplicas";
    match predictor.min_replicas() {
        Some(0) => verdict.warn("minReplicas is 0: the first request waits until the model is loaded"),
        Some(_) => verdict,
        None => verdict.fill(place, 1, "a model that is to answer needs a replica"),
    }
}
