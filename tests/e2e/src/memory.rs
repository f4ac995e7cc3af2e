use std::fs;
use std::io;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

/// A process's memory is looked at this often. The kernel keeps the most of it, so that what falls between two looks is missed only at the very end.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until a process has ended, and says the most memory that it had resident, in bytes. Its end and what it said are the caller's.
pub fn most_memory(child: &mut Child) -> io::Result<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().split(' ').next()?.parse::<u64>().ok());
        most = most.max(kilobytes.unwrap_or_default() * 1024);
        sleep(LOOK);
    }
    Ok(most)
}
