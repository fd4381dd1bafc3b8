//! What the operating system says about this process and about the disk of its state (Linux's
//! `/proc`, proc(5)). Anything that it does not say is unknown, not zero.

use std::path::Path;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeValLike;

/// Units of a process's start time in a second: `USER_HZ`, 100 wherever Kith runs (time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// This process, as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Memory that is in RAM.
    pub(super) resident_bytes: Option<u64>,
    /// Processor time of all threads.
    pub(super) cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub(super) open_files: Option<u64>,
    /// Start, in seconds since 1970.
    pub(super) started: Option<f64>,
}

impl Process {
    /// Asks the system.
    pub(super) fn now() -> Process {
        Process {
            resident_bytes: resident_bytes(),
            cpu_seconds: cpu_seconds(),
            // The folder that is read is a descriptor as well.
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|open| (open.count() as u64).saturating_sub(1)),
            started: started(),
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let microseconds = usage.user_time() + usage.system_time();
    Some(microseconds.num_microseconds() as f64 * 1e-6)
}

/// Boot time of the machine plus the start time of the process, which is counted from there.
fn started() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may hold blanks; the start time is the twentieth value
    // after it.
    let ticks: f64 = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let machine = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + ticks / TICKS_PER_SECOND)
}

/// Bytes that this user may still write to the disk with this folder.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = statvfs(folder).ok()?;
    // Both are 32 bits wide on some machines.
    Some(disk.blocks_available() as u64 * disk.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_system_tells_memory_time_files_and_start() {
        let process = Process::now();
        let resident = process.resident_bytes.unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
        assert!(process.cpu_seconds.unwrap() > 0.0);
        assert!(
            process.open_files.unwrap() > 2,
            "at least the standard streams"
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - process.started.unwrap();
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_disk_has_room_and_a_folder_that_is_not_there_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        assert_eq!(free_bytes(&folder.path().join("none")), None);
    }
}
