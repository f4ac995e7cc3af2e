//! The ground's servers: started with a log each, looked at while something is waited for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host;

/// Children of this process. They end with the namespaces, whatever happens to this process.
#[derive(Debug)]
pub struct Processes {
    logs: PathBuf,
    running: Mutex<Vec<(String, Child)>>,
}

impl Processes {
    /// Logs go to `NAME.log` in this folder.
    pub fn new(logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs)?;
        Ok(Self {
            logs: logs.to_owned(),
            running: Mutex::default(),
        })
    }

    /// Starts a server.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {name} ({})", command.get_program().display()))?;
        self.running().push((name.to_owned(), child));
        Ok(())
    }

    /// Ends a server: asks, then kills after ten seconds.
    pub fn stop(&self, name: &str) -> Result<()> {
        let mut running = self.running();
        let Some(at) = running.iter().position(|(other, _)| other == name) else {
            return Ok(());
        };
        let (_, mut child) = running.remove(at);
        drop(running);
        host::run(Command::new("kill").arg(child.id().to_string()))?;
        let asked = Instant::now();
        while child.try_wait()?.is_none() {
            if asked.elapsed() > Duration::from_secs(10) {
                child.kill()?;
                child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The number of a server's process, where this handle started it and didn't stop it.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let running = self.running();
        running
            .iter()
            .find_map(|(other, child)| (other == name).then(|| child.id()))
    }

    /// Fails if a server has ended by itself.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&self) -> Result<()> {
        for (name, child) in self.running().iter_mut() {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "{name} ended with {status}; its last lines:\n{}",
                    self.last_lines(name, 20)
                );
            }
        }
        Ok(())
    }

    /// Asks again and again until the answer is yes, a server has ended, or the time is over.
    pub fn wait(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ask() {
            self.check()?;
            if start.elapsed() > limit {
                let running = self.running().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
                let logs: Vec<_> = running
                    .iter()
                    .map(|name| format!("--- {name}\n{}", self.last_lines(name, 8)))
                    .collect();
                bail!(
                    "{what} did not happen within {} s\n{}",
                    limit.as_secs(),
                    logs.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Where a server writes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// The end of a server's log.
    pub fn last_lines(&self, name: &str, lines: usize) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        host::tail(&String::from_utf8_lossy(&text), lines)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<(String, Child)>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Processes {
    /// Matters only where the namespaces live on: a test's own server in a cluster that stays up.
    fn drop(&mut self) {
        for (_, child) in self.running().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
