//! What a page shows: its sections, their blocks, and in those of the kind `console` commands with what they print.

use anyhow::{Context as _, Result, ensure};

/// A command that a page shows, and what it says that the command prints.
#[derive(Clone, Debug)]
pub struct Step {
    /// As it is typed; with all of its lines.
    pub command: String,
    /// What stands under it; `…` is anything.
    pub prints: String,
}

impl Step {
    /// Its words, of a command without quotes.
    pub fn words(&self) -> Vec<&str> {
        self.command.split_whitespace().collect()
    }

    /// Whether what it said is what the page says.
    ///
    /// # Errors
    /// With both, where it isn't.
    pub fn holds(&self, said: &str) -> Result<()> {
        // Who writes JSON for people breaks its lines as they like.
        let is_json = self.prints.starts_with('{');
        let told = |text: &str| {
            if is_json {
                text.split_whitespace().collect()
            } else {
                text.to_owned()
            }
        };
        let (prints, said) = (told(&self.prints), told(said));
        let mut rest = said.as_str();
        for part in prints.split('…').map(str::trim) {
            let at = rest
                .find(part)
                .with_context(|| format!("{}: the page has `{part}`, and it said:\n{said}", self.command))?;
            rest = &rest[at + part.len()..];
        }
        Ok(())
    }
}

/// The text under a heading of the second level.
///
/// # Errors
/// Where there is no such heading.
pub fn section<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    page.split("\n## ")
        .find_map(|section| section.strip_prefix(heading)?.strip_prefix('\n'))
        .with_context(|| format!("the page has no section `{heading}`"))
}

/// The blocks of a section: what each is (`console`, `yaml`), and its text.
///
/// # Errors
/// Where one has no end.
pub fn blocks(section: &str) -> Result<Vec<(&str, &str)>> {
    let parts: Vec<&str> = section.split("```").collect();
    ensure!(parts.len() % 2 == 1, "a block has no end");
    // Every second part is a block.
    let blocks = parts.into_iter().skip(1).step_by(2);
    blocks
        .map(|block| block.split_once('\n').context("a block without text"))
        .collect()
}

/// The commands of a block of the kind `console`: each begins behind a `$`, and goes on where its quotes do.
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                prints: String::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            let is_open = step.prints.is_empty() && step.command.matches('\'').count() % 2 == 1;
            let text = if is_open { &mut step.command } else { &mut step.prints };
            text.push('\n');
            text.push_str(line);
        }
    }
    for step in &mut steps {
        step.prints = step.prints.trim().to_owned();
    }
    steps
}

/// Commands with a reader's own names in place of those that the page has.
///
/// # Errors
/// Where the page has none of that name.
pub fn with_names(commands: &str, names: &[(&str, &str)]) -> Result<String> {
    let mut own = commands.to_owned();
    for (of_page, name) in names {
        ensure!(own.contains(of_page), "the page has no `{of_page}` in {commands}");
        own = own.replace(of_page, name);
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A page\n\n## One\n\ntext\n\n```console\n$ ask -d '{\n  \"a\": 1\n}' here\n{\"b\": …, \"c\": 3}\n$ look\nat this\n\nand …\n```\n\n## Two\n\n```sh\nls\n```\n";

    #[test]
    fn commands_are_told_from_what_they_print() {
        let blocks_of = |heading: &str| blocks(section(PAGE, heading).expect("a section")).expect("blocks");
        assert_eq!(blocks_of("Two"), [("sh", "ls\n")]);
        let [("console", text)] = blocks_of("One")[..] else {
            panic!("one block")
        };
        let [ask, look] = &steps(text)[..] else {
            panic!("two commands")
        };
        assert_eq!(ask.command, "ask -d '{\n  \"a\": 1\n}' here");
        ask.holds("{\n \"b\": [2],\n \"c\":  3\n}").expect("the same JSON");
        ask.holds("{\"b\": 2, \"c\": 4}").expect_err("another number");
        assert_eq!((look.words(), &*look.prints), (vec!["look"], "at this\n\nand …"));
        look.holds("at this\n\nand that\n").expect("with any end");
        look.holds("at this and that").expect_err("other lines");
        assert!(section(PAGE, "Three").is_err() && blocks("```sh\nls").is_err());
    }
}
