//! The charts' files agree with the program and with one another. What Helm and an API server make of them is tested in `tests/e2e/tests/charts.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser as _};
use regex::Regex;
use serde_json::Value;
use tidewaiter_webhook::metrics::labels::LABELS;
use tidewaiter_webhook::metrics::{DELIVERED, UNDELIVERED};
use tidewaiter_webhook::modules::ModuleSettings;

const BEGIN: &str =
    "<!-- values: from values.yaml, by UPDATE_CHARTS=1 cargo test -p tidewaiter-webhook --test charts -->\n";
const END: &str = "<!-- /values -->\n";
const CHARTS: [&str; 2] = ["tidewaiter", "tidewaiter-crds"];

fn path(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Compares a file with what it has to be, or writes it where `UPDATE_CHARTS` is set.
fn must_be(file: &str, wanted: &str) {
    if std::env::var_os("UPDATE_CHARTS").is_some() {
        fs::write(path(file), wanted).expect("the charts can be written");
    }
    assert!(
        read(file) == wanted,
        "{file} is out of date: UPDATE_CHARTS=1 cargo test -p tidewaiter-webhook --test charts"
    );
}

/// A value that an admin may set, as values.yaml describes it.
struct Setting {
    path: Vec<String>,
    /// On one line; none where it takes more.
    default: Option<String>,
    comment: String,
}

impl Setting {
    fn name(&self) -> String {
        self.path.join(".")
    }

    fn pointer(&self) -> String {
        format!("/{}", self.path.join("/"))
    }
}

/// A key with a comment right above it is a setting, and what is below the key is its default. A key without is a section, whose keys are settings.
fn settings(chart: &str) -> Vec<Setting> {
    let mut settings = Vec::<Setting>::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut default_below = None;
    for line in read(&format!("charts/{chart}/values.yaml")).lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() {
            comment.clear();
            continue;
        }
        if let Some(said) = text.strip_prefix("# ") {
            comment.push(said);
            continue;
        }
        if default_below.is_some_and(|outer| indent > outer) {
            if let Some(setting) = settings.last_mut() {
                setting.default = None;
            }
            continue;
        }
        default_below = None;
        let (key, rest) = text
            .split_once(':')
            .unwrap_or_else(|| panic!("values.yaml has neither a key nor a comment: {line}"));
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key.to_owned()));
        let path = open.iter().map(|(_, key)| key.clone()).collect::<Vec<_>>();
        if comment.is_empty() {
            assert!(rest.is_empty(), "{} has no comment in values.yaml", path.join("."));
            continue;
        }
        settings.push(Setting {
            path,
            default: Some(rest.trim().to_owned()),
            comment: std::mem::take(&mut comment).join(" "),
        });
        default_below = Some(indent);
    }
    settings
}

#[test]
fn custom_resources_are_those_that_the_program_prints() {
    must_be(
        "charts/tidewaiter-crds/files/crds.yaml",
        &tidewaiter_webhook::run::crds().unwrap(),
    );
}

#[test]
fn the_readmes_have_every_value() {
    for chart in CHARTS {
        let rows: String = settings(chart)
            .iter()
            .map(|setting| {
                let default = setting
                    .default
                    .as_ref()
                    .map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
                let comment = setting.comment.replace('|', "\\|");
                format!("| `{}` | {default} | {comment} |\n", setting.name())
            })
            .collect();
        let table = format!("| value | default | |\n|---|---|---|\n{rows}");
        let file = format!("charts/{chart}/README.md");
        let readme = read(&file);
        let (before, rest) = readme
            .split_once(BEGIN)
            .expect("the README has a place for the table of values");
        let (_, after) = rest.split_once(END).expect("the README's table of values has an end");
        must_be(&file, &format!("{before}{BEGIN}{table}{END}{after}"));
    }
}

/// The paths of a schema's properties, without those that have properties themselves.
fn typed(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        found.insert(path.trim_start_matches('.').to_owned());
        return;
    };
    assert!(
        schema["additionalProperties"] == false || path == ".global",
        "the schema takes a misspelt key in `{path}`"
    );
    for (key, schema) in properties {
        typed(schema, &format!("{path}.{key}"), found);
    }
}

#[test]
fn the_schemas_have_every_value_and_no_other() {
    for chart in CHARTS {
        let mut types = BTreeSet::new();
        typed(&yaml(&format!("charts/{chart}/values.schema.json")), "", &mut types);
        // Objects of which the schema knows the keys: one setting each.
        for whole in ["certificates.certManager.issuerRef", "modules.verify"] {
            let before = types.len();
            types.retain(|name| !name.starts_with(&format!("{whole}.")));
            if types.len() < before {
                types.insert(whole.into());
            }
        }
        // Helm gives that to every chart that is part of another.
        types.remove("global");
        let names: BTreeSet<_> = settings(chart).iter().map(Setting::name).collect();
        assert_eq!(types, names, "{chart}");
    }
}

/// What the schema takes must not stop the program, which would be a crash loop; and what it takes by default is taken.
#[test]
fn the_program_takes_what_the_schema_takes() {
    let schema = yaml("charts/tidewaiter/values.schema.json");
    let taken = |setting: &str, value: &str| {
        let pointer = setting
            .split('.')
            .fold(String::new(), |path, key| format!("{path}/properties/{key}"));
        let pattern = schema.pointer(&pointer).unwrap()["pattern"].as_str().unwrap();
        Regex::new(pattern).unwrap().is_match(value)
    };
    let flags = [
        (
            "webhook.budget",
            "--budget",
            &["100ms", "25000ms", "1s", "25s"][..],
            &["0s", "99ms", "25001ms", "26s", "60s", "2"][..],
        ),
        (
            "webhook.maxBody",
            "--max-body",
            &["64KiB", "31999KiB", "1MiB", "32MiB"],
            &["1KiB", "63KiB", "0MiB", "33MiB", "64MiB", "7"],
        ),
        (
            "certificates.selfManaged.lifetime",
            "--certificate-lifetime",
            &["30s", "90d"],
            &["29s", "1500ms", "0d"],
        ),
        (
            "certificates.selfManaged.authorityLifetime",
            "--authority-lifetime",
            &["60s", "365d"],
            &["1s", "0h"],
        ),
        (
            "credentials.collectAfter",
            "--collect-after",
            &["60s", "1m", "24h"],
            &["5s", "59s", "60000ms", "0d"],
        ),
        ("audit.interval", "--audit-interval", &["60s", "1h"], &["1s", "0h", "1"]),
        (
            "log.level",
            "--log",
            &["info", "info,kube=debug", "off", "tidewaiter_webhook::admission=trace"],
            &["nonsense", "", "info,", "kube=loud"],
        ),
    ];
    for (setting, flag, good, bad) in flags {
        for value in good {
            assert!(taken(setting, value), "the schema refuses {setting}={value}");
            let arguments = tidewaiter_webhook::cli::Arguments::try_parse_from(["tidewaiter-webhook", flag, value]);
            assert!(arguments.is_ok(), "the program refuses {flag} {value}");
        }
        for value in bad {
            assert!(!taken(setting, value), "the schema takes {setting}={value}");
        }
    }
}

#[test]
fn every_value_is_tried() {
    let defaults = yaml("charts/tidewaiter/values.yaml");
    let examples: Vec<_> = fs::read_dir(path("charts/tidewaiter/ci"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| yaml(&format!("charts/tidewaiter/ci/{name}")))
        .collect();
    for setting in settings("tidewaiter") {
        let tried = |values: &Value| {
            values
                .pointer(&setting.pointer())
                .is_some_and(|value| Some(value) != defaults.pointer(&setting.pointer()))
        };
        assert!(
            examples.iter().any(tried),
            "no file in charts/tidewaiter/ci sets {} to anything but its default",
            setting.name()
        );
    }
}

#[test]
fn every_alert_has_a_way_out() {
    let page = read("docs/alerts.md");
    let explained: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## Tidewaiter"))
        .map(|name| format!("Tidewaiter{name}"))
        .collect();
    let rules = yaml("charts/tidewaiter/files/alerts.yaml");
    let alerts: BTreeSet<_> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(alerts, explained);
}

#[test]
fn the_alert_on_credentials_is_for_every_failure_and_for_nothing_else() {
    let expression = |rules: &Value| {
        let rule = rules
            .as_array()
            .unwrap()
            .iter()
            .find(|rule| rule["alert"] == "TidewaiterCredentialsNotWritten");
        rule.unwrap()["expr"].as_str().unwrap().to_owned()
    };
    let asked = format!("{{result=~\"{}\"}}", UNDELIVERED.join("|"));
    let expression = expression(&yaml("charts/tidewaiter/files/alerts.yaml"));
    assert!(expression.contains(&asked), "{expression} doesn't ask for {asked}");
    let page = read("docs/alerts.md");
    for result in UNDELIVERED {
        assert!(
            page.contains(&format!("\n- `{result}`: ")),
            "docs/alerts.md says nothing of `{result}`"
        );
    }
    // Whoever counts another word has it in one of the two lists.
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut counted = BTreeSet::new();
    for file in [
        "admission/effects.rs",
        "controllers/credentials.rs",
        "controllers/minting/comparing.rs",
        "controllers/minting/mod.rs",
    ] {
        let source = read(&format!("webhook/src/{file}"));
        for before in [".credentials(\"", "result: \"", "(500, \"", "(403, \""] {
            counted.extend(names(&source, before, word).into_iter().map(str::to_owned));
        }
    }
    let known: BTreeSet<_> = DELIVERED.into_iter().chain(UNDELIVERED).map(str::to_owned).collect();
    assert_eq!(counted, known);
}

/// The names that begin so in a text, each with what may stand in it.
fn names<'a>(text: &'a str, prefix: &str, fits: fn(char) -> bool) -> BTreeSet<&'a str> {
    text.match_indices(prefix)
        .map(|(start, _)| {
            let rest = &text[start + prefix.len()..];
            &rest[..rest.find(|c| !fits(c)).unwrap_or(rest.len())]
        })
        .collect()
}

#[test]
fn the_program_knows_every_flag_that_the_chart_gives_it() {
    let program = tidewaiter_webhook::cli::Arguments::command();
    let known: Vec<_> = program.get_arguments().filter_map(clap::Arg::get_long).collect();
    let deployment = read("charts/tidewaiter/templates/deployment.yaml");
    let given = names(&deployment, "- --", |c| c.is_ascii_lowercase() || c == '-');
    assert!(given.len() > 10, "{given:?}");
    for flag in given {
        assert!(known.contains(&flag), "--{flag}");
    }
}

/// A flag wins over its variable: who sets that would wait in vain for something to change.
#[test]
fn a_variable_of_a_flag_that_the_chart_gives_is_refused_and_the_value_is_named() {
    let deployment = read("charts/tidewaiter/templates/deployment.yaml");
    let given = names(&deployment, "- --", |c| c.is_ascii_lowercase() || c == '-');
    let checks = read("charts/tidewaiter/templates/checks.yaml");
    let program = tidewaiter_webhook::cli::Arguments::command();
    let mut variables = BTreeSet::new();
    for argument in program.get_arguments() {
        if argument.get_long().is_some_and(|flag| given.contains(flag)) {
            let variable = argument.get_env().and_then(|name| name.to_str()).unwrap();
            variables.insert(variable.strip_prefix("TIDEWAITER_").unwrap().to_owned());
        }
    }
    let settings: BTreeSet<_> = settings("tidewaiter").iter().map(Setting::name).collect();
    let lines = checks.lines().skip_while(|line| *line != "{{- $flags := dict").skip(1);
    let mut refused = BTreeSet::new();
    for line in lines.take_while(|line| *line != "}}") {
        let mut words = line.split('"').skip(1).step_by(2);
        let (variable, advice) = (words.next().unwrap(), words.next().unwrap());
        refused.insert(variable.to_owned());
        if let Some(value) = advice.strip_prefix("set ") {
            let value = value.split(' ').next().unwrap();
            let is_one = settings
                .iter()
                .any(|name| name == value || name.starts_with(&format!("{value}.")));
            assert!(is_one, "{variable}: there is no value {value}");
        }
    }
    assert_eq!(refused, variables);
}

#[test]
fn by_default_there_is_room_on_disk_for_what_is_kept() {
    let values = yaml("charts/tidewaiter/values.yaml");
    let limit = values["cache"]["sizeLimit"].as_str().unwrap();
    let limit: u64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
    let mib = |section: &str, value: &str| values[section][value].as_u64().unwrap();
    let kept = mib("cache", "compiledMiB") + mib("modules", "cacheMiB") + mib("modules", "maxModuleMiB");
    assert!(kept <= limit, "{kept} of {limit} MiB");
    let arguments = tidewaiter_webhook::cli::Arguments::try_parse_from(["tidewaiter-webhook"]).unwrap();
    assert_eq!(u64::from(arguments.compiled_mib), mib("cache", "compiledMiB"));
    // What the pages give as an example fits too.
    let example = format!("\n    cacheMiB: {}\n", mib("modules", "cacheMiB"));
    assert!(read("docs/distribution.md").contains(&example), "{example}");
}

#[test]
fn every_metric_that_is_asked_for_is_told() {
    // Families are told only once they have a value, so a new server's metrics don't name them all; where they are made does.
    let made = read("webhook/src/metrics.rs");
    let queries = read("charts/tidewaiter/files/alerts.yaml") + &read("charts/tidewaiter/files/dashboard.json");
    let asked = names(&queries, "tidewaiter_", |c| c.is_ascii_lowercase() || c == '_');
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked {
        // What the format adds by itself: the kind's suffix, then the unit's.
        let name = ["_total", "_bucket"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let name = name.strip_suffix("_seconds").unwrap_or(name);
        assert!(made.contains(&format!("\"{name}\",")), "tidewaiter_{name}");
    }
}

#[test]
fn every_value_of_a_label_that_an_alert_asks_for_is_told() {
    let alerts = read("charts/tidewaiter/files/alerts.yaml");
    let asked = Regex::new(r#"tidewaiter_(\w+?)(?:_total|_bucket)?\{(\w+)=~?"([^"$]+)"\}"#).unwrap();
    let asked: Vec<_> = asked
        .captures_iter(&alerts)
        .map(|found| found.extract::<3>().1)
        .collect();
    assert!(asked.len() > 3, "{asked:?}");
    for [metric, label, values] in asked {
        let known = LABELS
            .iter()
            .find(|known| known.name == label && known.of.contains(&metric));
        let known = known.unwrap_or_else(|| panic!("tidewaiter_{metric} has no label {label}"));
        for value in values.split('|') {
            let told = known.values.iter().any(|(known, _)| *known == value);
            assert!(told, "tidewaiter_{metric} has no {label}={value}");
        }
    }
}

#[test]
fn the_program_reads_what_the_chart_writes_about_modules() {
    let values = yaml("charts/tidewaiter/ci/modules-values.yaml");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("modules.yaml");
    fs::write(&file, values["modules"].to_string()).unwrap();
    ModuleSettings::read(Some(&file), None).unwrap();
    let defaults = yaml("charts/tidewaiter/values.yaml");
    let defaults = defaults["modules"].as_object().unwrap().clone();
    // As the chart leaves out what is empty.
    let given = defaults
        .into_iter()
        .filter(|(_, value)| !matches!(value, Value::Array(list) if list.is_empty()));
    let given = given.filter(|(_, value)| !matches!(value, Value::Object(map) if map.is_empty()) && value != "");
    fs::write(&file, Value::Object(given.collect()).to_string()).unwrap();
    ModuleSettings::read(Some(&file), None).unwrap();
}
