use crate::{Credentials, Delivery, Denial, Effect, Entry, Fill, Request, Value, Verdict};

impl Verdict {
    /// Admits the object and says nothing. Go on with [`fill`](Self::fill), [`warn`](Self::warn) and the others.
    pub fn admit() -> Self {
        Self {
            denial: None,
            fills: Vec::new(),
            warnings: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Fills in a value where the user left a place empty. `path` is a JSON Pointer to a member of an object (missing parents are made);
    /// `reason` is for the user, at most 90 characters, without the value. A fill over a value of the user is dropped, with a warning.
    #[must_use]
    pub fn fill(mut self, path: impl Into<String>, value: impl Into<Value>, reason: impl Into<String>) -> Self {
        self.fills.push(Fill {
            path: path.into(),
            value: value.into().to_string(),
            reason: reason.into(),
        });
        self
    }

    /// One line for the user, at most 120 characters.
    #[must_use]
    pub fn warn(mut self, line: impl Into<String>) -> Self {
        self.warnings.push(line.into());
        self
    }

    /// Refuses the object. `code` is a word for machines in kebab case; `message` says what happened, to which part of the object, and
    /// what to do; `path` is a JSON Pointer to that part. Of several denials the first counts.
    #[must_use]
    pub fn deny(mut self, code: impl Into<String>, message: impl Into<String>, path: Option<&str>) -> Self {
        self.denial.get_or_insert_with(|| Denial {
            code: code.into(),
            message: message.into(),
            path: path.map(str::to_owned),
        });
        self
    }

    /// Asks for a backend's credentials in the object's namespace. Asking twice is asking once.
    #[must_use]
    pub fn credentials(mut self, backend: impl Into<String>, delivery: Delivery) -> Self {
        let effect = Effect::Credentials(Credentials {
            backend: backend.into(),
            delivery,
        });
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
        self
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self::admit()
    }
}

impl Request {
    /// Whether the user took out what was filled in here, or above: a fill at this path would be dropped.
    pub fn is_withheld(&self, path: &str) -> bool {
        self.withheld.iter().any(|held| {
            path.strip_prefix(held.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Entry {
    /// The value. `null` where the text is no JSON, which the engine never sends.
    pub fn parsed(&self) -> Value {
        serde_json::from_str(&self.value).unwrap_or_default()
    }
}
