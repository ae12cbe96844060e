//! How much memory the process may use, and the defaults that follow from it.
//!
//! The smallest limit counts of all that hold for the process: those of its control groups (version 2 and 1) and of all
//! groups above them, as far as they can be seen from where it runs, and the machine's own memory. Pure over the texts of
//! the files.

use std::path::Path;

use serde_json::{Map, Value};

/// What is assumed where the system says nothing.
const UNKNOWN_BYTES: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

/// The memory in bytes that this process may use.
pub(crate) fn available() -> u64 {
    of_files(&|path| std::fs::read_to_string(path).ok())
}

/// The same from the texts of files, by their absolute paths.
fn of_files(read: &dyn Fn(&str) -> Option<String>) -> u64 {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let mut limits: Vec<u64> = Vec::new();
    for line in groups.lines() {
        // `ID:CONTROLLERS:PATH`; version 2 has no controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            some if some.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // Inside a container the path is often that of the host, and the group's files lie at the root.
        for group in Path::new(path).ancestors() {
            let group = group.display().to_string();
            let text = read(&format!("{root}/{}{file}", group.trim_start_matches('/').to_owned() + separator(&group)));
            limits.extend(text.and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits.extend(read("/proc/meminfo").as_deref().and_then(total));
    // Version 1 says a huge number for none, version 2 says `max`, which is no number.
    limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(UNKNOWN_BYTES)
}

fn separator(group: &str) -> &'static str {
    if group == "/" { "" } else { "/" }
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Puts the defaults that follow from the memory into a configuration, where it says nothing itself.
pub(super) fn fill(value: &mut Value, memory: u64) {
    let Value::Object(sections) = value else { return };
    let share = |part: u64, min: u64, max: u64| (memory / part).clamp(min, max);
    let cache = put(sections, "cache", "memory_bytes", share(8, 16 * MIB, 512 * MIB));
    put(sections, "cache", "scan_bytes", cache / 2);
    put(sections, "cache", "tail_bytes", share(16, 8 * MIB, 128 * MIB));
    put(sections, "limits", "uploads_memory_bytes", share(16, 64 * MIB, 256 * MIB));
    put(sections, "limits", "appends_memory_bytes", share(32, 8 * MIB, 256 * MIB));
    put(sections, "limits", "inflated_memory_bytes", share(8, 256 * MIB, 1024 * MIB));
    put(sections, "limits", "quic_windows_bytes", share(64, 16 * MIB, 512 * MIB));
    // A request or an answer of the largest size must fit, whichever of the two somebody has set.
    let largest = number(sections, "limits", "request_bytes_max").unwrap_or(0);
    let requests = put(sections, "limits", "requests_memory_bytes", share(8, 16 * MIB, 1024 * MIB).max(largest));
    put(sections, "limits", "request_bytes_max", requests.clamp(64 << 10, 100 * MIB));
    let largest = number(sections, "limits", "fetch_bytes_max").unwrap_or(0);
    let answers = put(sections, "limits", "answers_memory_bytes", share(8, 16 * MIB, 1024 * MIB).max(largest));
    put(sections, "limits", "fetch_bytes_max", (answers / 2).clamp(64 << 10, 55 * MIB));
}

fn number(sections: &Map<String, Value>, section: &str, key: &str) -> Option<u64> {
    sections.get(section)?.get(key)?.as_u64()
}

/// The default, unless there is a value; gives what counts.
fn put(sections: &mut Map<String, Value>, section: &str, key: &str, default: u64) -> u64 {
    let keys = sections.entry(section.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    // A section that is no mapping is told later, by its type.
    let Value::Object(keys) = keys else { return default };
    keys.entry(key.to_owned()).or_insert_with(|| default.into()).as_u64().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:       24684788 kB\nMemFree:         1000 kB\n");
    const MACHINE: u64 = 24_684_788 * 1024;

    fn of(files: &[(&str, &str)]) -> u64 {
        of_files(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn without_a_limit_the_machine_counts() {
        assert_eq!(of(&[MEMINFO]), MACHINE);
        let v2 = [MEMINFO, ("/proc/self/cgroup", "0::/a\n"), ("/sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(of(&v2), MACHINE);
        let v1 = [
            MEMINFO,
            ("/proc/self/cgroup", "4:memory:/a\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(of(&v1), MACHINE);
        assert_eq!(of(&[]), UNKNOWN_BYTES);
        assert_eq!(of(&[("/proc/meminfo", "MemTotal: much\n")]), UNKNOWN_BYTES);
    }

    #[test]
    fn the_smallest_of_the_groups_above_counts() {
        let v2 = [
            MEMINFO,
            ("/proc/self/cgroup", "0::/pod/container\n"),
            ("/sys/fs/cgroup/pod/container/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "536870912\n"),
            ("/sys/fs/cgroup/memory.max", "1073741824\n"),
        ];
        assert_eq!(of(&v2), 536_870_912);
        let v1 = [
            MEMINFO,
            ("/proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/pod\n0::/\n"),
            ("/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "734003200\n"),
        ];
        assert_eq!(of(&v1), 734_003_200);
    }

    #[test]
    fn a_container_that_sees_its_group_at_the_root_finds_it() {
        let v2 =
            [MEMINFO, ("/proc/self/cgroup", "0::/kubepods/pod7/abc\n"), ("/sys/fs/cgroup/memory.max", "268435456\n")];
        assert_eq!(of(&v2), 268_435_456);
        let v1 = [
            MEMINFO,
            ("/proc/self/cgroup", "4:memory:/docker/abc\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
        ];
        assert_eq!(of(&v1), 268_435_456);
    }

    #[test]
    fn shares_leave_room_and_grow_with_the_memory() {
        for memory in [512 * MIB, 1024 * MIB, 4096 * MIB, 64 << 30, 1 << 40] {
            let mut value = Value::Object(Map::new());
            fill(&mut value, memory);
            let all = ["/cache/memory_bytes", "/cache/tail_bytes", "/limits/appends_memory_bytes"];
            let more =
                ["/limits/uploads_memory_bytes", "/limits/requests_memory_bytes", "/limits/answers_memory_bytes"];
            let sum: u64 = all.iter().chain(&more).map(|key| value.pointer(key).unwrap().as_u64().unwrap()).sum();
            assert!(sum <= memory * 5 / 8, "{sum} of {memory}");
        }
    }

    #[test]
    fn what_is_set_stays_and_what_hangs_on_it_follows() {
        let mut value =
            serde_json::json!({"limits": {"request_bytes_max": 104_857_600, "answers_memory_bytes": 8_388_608}});
        fill(&mut value, 256 * MIB);
        let limits = &value["limits"];
        assert_eq!(limits["request_bytes_max"], 104_857_600);
        assert_eq!(limits["requests_memory_bytes"], 104_857_600);
        assert_eq!(limits["answers_memory_bytes"], 8_388_608);
        assert_eq!(limits["fetch_bytes_max"], 4_194_304);
    }
}
