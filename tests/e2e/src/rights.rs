//! What a ServiceAccount may do in a cluster, beside what it did: the API server's own log names for each request the binding that allowed it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidewaiter_ground::Cluster;

/// The rules that a ServiceAccount had while it was watched.
#[derive(Debug, Default)]
pub struct Rights {
    namespace: String,
    account: String,
    /// By binding, as the log names it. A rule is its JSON: one that stands in two roles is one rule.
    rules: BTreeMap<String, BTreeSet<String>>,
    /// Parts of the log in which a refusal is no wonder.
    excused: Vec<Range<usize>>,
    /// From here on in the log it has rights in these namespaces alone.
    limited: Option<(usize, BTreeSet<String>)>,
}

/// What became of the rights.
#[derive(Debug)]
pub struct Ledger {
    /// How many different things the account may do: a rule's resource and verb, and name where it has names.
    pub granted: usize,
    /// Those that it never did.
    pub unused: Vec<String>,
    /// What it was refused, each with how often.
    pub refused: BTreeMap<String, usize>,
    /// How many requests there were.
    pub requests: usize,
}

/// One thing that may be done, or was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    group: String,
    resource: String,
    verb: String,
    name: String,
}

impl Rights {
    /// Of nobody's rules yet.
    pub fn of(namespace: &str, account: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            ..Self::default()
        }
    }

    /// Takes down the rules that the account has now.
    pub fn note(&mut self, cluster: &Cluster) -> Result<()> {
        let list = |kinds: &str| -> Result<Vec<Value>> {
            let list = cluster.kubectl(&["get", kinds, "--all-namespaces", "-o", "json"])?;
            let mut list: Value = serde_json::from_str(&list)?;
            Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
        };
        let roles = list("clusterroles,roles")?;
        for binding in list("clusterrolebindings,rolebindings")? {
            let mut subjects = binding["subjects"].as_array().into_iter().flatten();
            if !subjects.any(|subject| subject["name"] == *self.account && subject["namespace"] == *self.namespace) {
                continue;
            }
            let refers = &binding["roleRef"];
            let namespace = match refers["kind"].as_str() {
                Some("Role") => &binding["metadata"]["namespace"],
                _ => &Value::Null,
            };
            let role = roles.iter().find(|role| {
                let metadata = &role["metadata"];
                role["kind"] == refers["kind"]
                    && metadata["name"] == refers["name"]
                    && metadata["namespace"] == *namespace
            });
            let role = role.with_context(|| format!("the role of {} isn't there", binding["metadata"]["name"]))?;
            let noted = self.rules.entry(named(&binding)).or_default();
            noted.extend(role["rules"].as_array().into_iter().flatten().map(Value::to_string));
        }
        ensure!(!self.rules.is_empty(), "{} may do nothing", self.account);
        Ok(())
    }

    /// Does `work`, in which the account may be refused something: its rights change under it.
    pub fn excuse<T>(&mut self, cluster: &Cluster, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = end(cluster)?;
        let done = work();
        self.excused.push(begin..end(cluster)?);
        done
    }

    /// From now on nobody wonders what it is refused in other namespaces than these.
    pub fn limit(&mut self, cluster: &Cluster, namespaces: impl IntoIterator<Item = String>) -> Result<()> {
        self.limited = Some((end(cluster)?, namespaces.into_iter().collect()));
        Ok(())
    }

    fn is_excused(&self, at: usize, namespace: &str) -> bool {
        let limited = |(since, within): &(usize, BTreeSet<String>)| {
            at >= *since && !namespace.is_empty() && !within.contains(namespace)
        };
        self.excused.iter().any(|part| part.contains(&at)) || self.limited.as_ref().is_some_and(limited)
    }

    /// Reads what was done.
    pub fn ledger(&self, cluster: &Cluster) -> Result<Ledger> {
        let log = fs::read(cluster.audit_log()).context("the API server's log of requests")?;
        Ok(self.compare(&String::from_utf8_lossy(&log)))
    }

    fn compare(&self, log: &str) -> Ledger {
        let granted: BTreeMap<&str, Vec<Cell>> = (self.rules.values().flatten())
            .map(|rule| (rule.as_str(), cells(&serde_json::from_str(rule).unwrap_or_default())))
            .collect();
        let account = format!("system:serviceaccount:{}:{}", self.namespace, self.account);
        let mut used: BTreeSet<(&str, &Cell)> = BTreeSet::new();
        let mut refused: BTreeMap<String, usize> = BTreeMap::new();
        let (mut requests, mut at) = (0, 0);
        for line in log.split_inclusive('\n') {
            let begin = at;
            at += line.len();
            if !line.contains(&account) {
                continue;
            }
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if event["user"]["username"] != account.as_str() {
                continue;
            }
            requests += 1;
            let said = |what: &str| event["annotations"][format!("authorization.k8s.io/{what}")].as_str();
            let done = done(&event);
            if said("decision") == Some("forbid") {
                let namespace = event["objectRef"]["namespace"].as_str().unwrap_or_default();
                if !self.is_excused(begin, namespace) {
                    for cell in &done {
                        *refused.entry(format!("{} in `{namespace}`", cell.words())).or_default() += 1;
                    }
                }
                continue;
            }
            let binding = said("reason").and_then(|reason| reason.strip_prefix("RBAC: allowed by "));
            let binding = binding.and_then(|reason| reason.split(" of ").next());
            let rules = binding.and_then(|binding| self.rules.get(binding));
            for rule in rules.into_iter().flatten() {
                let cells = &granted[rule.as_str()];
                let did = cells.iter().filter(|cell| done.iter().any(|done| cell.covers(done)));
                used.extend(did.map(|cell| (rule.as_str(), cell)));
            }
        }
        let all = granted
            .iter()
            .flat_map(|(rule, cells)| cells.iter().map(move |cell| (*rule, cell)));
        let all: BTreeSet<_> = all.collect();
        Ledger {
            granted: all.len(),
            unused: all.difference(&used).map(|(_, cell)| cell.words()).collect(),
            refused,
            requests,
        }
    }
}

/// The length of the log.
fn end(cluster: &Cluster) -> Result<usize> {
    Ok(usize::try_from(fs::metadata(cluster.audit_log())?.len())?)
}

/// A binding as the API server's log names it.
fn named(binding: &Value) -> String {
    let text = |field: &str| binding["metadata"][field].as_str().unwrap_or_default();
    match binding["kind"].as_str() {
        Some("RoleBinding") => format!("RoleBinding \"{}/{}\"", text("name"), text("namespace")),
        _ => format!("ClusterRoleBinding \"{}\"", text("name")),
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// All that a rule allows.
fn cells(rule: &Value) -> Vec<Cell> {
    let names = match texts(&rule["resourceNames"]) {
        names if names.is_empty() => vec![""],
        names => names,
    };
    let mut cells = Vec::new();
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                cells.extend(names.iter().map(|name| Cell::new(group, resource, verb, name)));
            }
        }
    }
    cells
}

/// What an event of the log was. An apply that makes its object takes the right to create it too, of which the log has no word.
fn done(event: &Value) -> Vec<Cell> {
    let object = &event["objectRef"];
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let verb = event["verb"].as_str().unwrap_or_default();
    let mut done = vec![Cell::new(text("apiGroup"), &resource, verb, text("name"))];
    if verb == "patch" && event["responseStatus"]["code"] == 201 {
        done.push(Cell::new(text("apiGroup"), &resource, "create", text("name")));
    }
    done
}

impl Cell {
    fn new(group: &str, resource: &str, verb: &str, name: &str) -> Self {
        let [group, resource, verb, name] = [group, resource, verb, name].map(str::to_owned);
        Self {
            group,
            resource,
            verb,
            name,
        }
    }

    /// Whether what was done is what this allows.
    fn covers(&self, done: &Self) -> bool {
        let anywhere = self.name.is_empty() || self.name == done.name;
        (&self.group, &self.resource, &self.verb) == (&done.group, &done.resource, &done.verb) && anywhere
    }

    fn words(&self) -> String {
        let Self {
            group,
            resource,
            verb,
            name,
        } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{verb} {resource}{dot}{group}{slash}{name}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ACCOUNT: &str = "system:serviceaccount:a:b";

    fn event(binding: &str, verb: &str, object: Value, code: u16) -> String {
        let event = json!({
            "user": {"username": ACCOUNT},
            "verb": verb,
            "objectRef": object,
            "responseStatus": {"code": code},
            "annotations": {
                "authorization.k8s.io/decision": if code == 403 { "forbid" } else { "allow" },
                "authorization.k8s.io/reason": format!("RBAC: allowed by {binding} of Role \"r\" to ServiceAccount \"b/a\""),
            },
        });
        format!("{event}\n")
    }

    fn rights(rules: &[(&str, Value)]) -> Rights {
        let mut rights = Rights::of("a", "b");
        for (binding, rule) in rules {
            let rules = rights.rules.entry((*binding).to_owned()).or_default();
            rules.insert(rule.to_string());
        }
        rights
    }

    #[test]
    fn what_was_never_done_is_named() {
        let rule = json!({"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get", "create"]});
        let (everywhere, here) = ("ClusterRoleBinding \"b\"", "RoleBinding \"b/n\"");
        let rights = rights(&[(everywhere, rule.clone()), (here, rule)]);
        let log = [
            event(everywhere, "get", json!({"resource": "secrets", "name": "x"}), 404),
            event(here, "patch", json!({"resource": "secrets", "name": "x"}), 201),
            // By somebody else's rule.
            event(
                "ClusterRoleBinding \"c\"",
                "get",
                json!({"resource": "configmaps"}),
                200,
            ),
        ];
        let ledger = rights.compare(&log.concat());
        assert_eq!((ledger.granted, ledger.requests), (4, 3));
        assert_eq!(ledger.unused, ["create configmaps", "get configmaps"]);
        assert!(ledger.refused.is_empty());
    }

    #[test]
    fn a_rule_with_names_is_used_by_each_of_them() {
        let rule = json!({"apiGroups": ["g"], "resources": ["things/status"], "resourceNames": ["x", "y"], "verbs": ["patch"]});
        let rights = rights(&[("ClusterRoleBinding \"b\"", rule)]);
        let object = json!({"resource": "things", "subresource": "status", "apiGroup": "g", "name": "x"});
        let ledger = rights.compare(&event("ClusterRoleBinding \"b\"", "patch", object, 200));
        assert_eq!(ledger.unused, ["patch things/status.g/y"]);
    }

    #[test]
    fn a_refusal_counts_unless_it_is_excused() {
        let mut rights = rights(&[]);
        let refusal = event("", "list", json!({"resource": "secrets", "namespace": "n"}), 403);
        rights.excused.push(0..1);
        let ledger = rights.compare(&[&*refusal, &*refusal].concat());
        assert_eq!(ledger.refused, [("list secrets in `n`".to_owned(), 1)].into());
        for (within, refusals) in [("n", 1), ("m", 0)] {
            rights.limited = Some((0, [within.to_owned()].into()));
            assert_eq!(rights.compare(&[&*refusal, &*refusal].concat()).refused.len(), refusals);
        }
    }
}
