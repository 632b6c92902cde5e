//! Parsers of one value each. They do not know the key: the caller adds it, with the place.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::suggest;
use crate::config::bytes::{has_scheme, integer, split_once};
use crate::config::plan::{
    Address, CgroupOption, EnvChange, Id, IdMap, IdRange, Output, ReadyCheck, Seccomp,
};
use crate::mount::request::PivotRoot;
use crate::names;
use crate::names::Names;
use crate::place::Place;
use crate::signal_names;

/// A value, or a message about the mistake in it.
pub(crate) type Parsed<T> = Result<T, String>;

/// Yes or no: empty (a bare key), `true`, `1`, `yes`, `on`, or `false`, `0`, `no`, `off`.
pub(crate) fn boolean(text: &[u8]) -> Parsed<bool> {
    match &text.to_ascii_lowercase()[..] {
        b"" | b"true" | b"1" | b"yes" | b"on" => Ok(true),
        b"false" | b"0" | b"no" | b"off" => Ok(false),
        _ => Err(format!("{} is neither true nor false", quoted(text))),
    }
}

/// Any text but the empty one.
pub(crate) fn text(text: &[u8]) -> Parsed<OsString> {
    match text {
        [] => Err("the value is missing".to_owned()),
        text => Ok(OsString::from_vec(text.to_vec())),
    }
}

/// A duration, for keys that uWSGI does not have: seconds, with fractions, or a number with a unit (`250ms`,
/// `5s`, `2m`, `1h`).
pub(crate) fn duration(text: &[u8]) -> Parsed<Duration> {
    let wrong = || format!("{} is not a duration: write 5, 1.5, 250ms, 5s or 2m", quoted(text));
    let unit = text.iter().position(|&byte| !byte.is_ascii_digit() && byte != b'.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let unit: u64 = match unit {
        b"ms" => 1_000_000,
        b"" | b"s" => 1_000_000_000,
        b"m" => 60_000_000_000,
        b"h" => 3_600_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = split_once(number, b'.').unwrap_or((number, b"0"));
    // At most six digits, so that the calculation below cannot overflow.
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 6 {
        return Err(wrong());
    }
    let whole: u64 = integer(whole).ok_or_else(wrong)?;
    let parts: u64 = integer(fraction).ok_or_else(wrong)?;
    let scale = fraction.iter().fold(1, |scale, _| scale * 10);
    let nanoseconds = whole.checked_mul(unit).and_then(|whole| whole.checked_add(parts * unit / scale));
    // A century, which no clock overflows by.
    const MAX: u64 = 100 * 365 * 86_400 * 1_000_000_000;
    let nanoseconds = nanoseconds.filter(|&nanoseconds| nanoseconds <= MAX);
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| format!("{} is too long", quoted(text)))
}

/// A whole number, such as the seconds or milliseconds of uWSGI's keys.
pub(crate) fn count(text: &[u8]) -> Parsed<u32> {
    integer(text).ok_or_else(|| format!("{} is not a whole number", quoted(text)))
}

/// The file of a cgroup, and the value that an option writes to it. `cgroup-opt` takes `FILE=VALUE`,
/// `memory-max` a size, `pids-max` a count, and `cpu-max` a share in percent or in the kernel's form (`QUOTA
/// PERIOD`, in microseconds). The last three also take `max`.
pub(crate) fn cgroup_option(key: &str, text: &[u8]) -> Parsed<CgroupOption> {
    let (file, value, wanted) = match key {
        "memory-max" => ("memory.max", size(text), "a size: write 512M, or max"),
        "cpu-max" => ("cpu.max", share(text), "a share: write 50%, 200% or max"),
        "pids-max" => {
            ("pids.max", integer(text).map(|count: u64| count.to_string()), "a whole number, or max")
        }
        _ => {
            let parts = split_once(text, b'=')
                .and_then(|(file, value)| Some((std::str::from_utf8(file).ok()?, value)));
            return match parts {
                Some((file, _)) if is_no_limit(file) => Err(format!(
                    "'{file}' is no limit: it moves, stops or ends processes, also those of others"
                )),
                Some((file, value)) if !file.is_empty() && !file.contains('/') => {
                    Ok(CgroupOption { file: file.to_owned(), value: value.to_vec() })
                }
                _ => Err(format!("{} is not FILE=VALUE with a file of a cgroup", quoted(text))),
            };
        }
    };
    let value = if text == b"max" { Some("max".to_owned()) } else { value };
    let value = value.ok_or_else(|| format!("{} is not {wanted}", quoted(text)))?;
    Ok(CgroupOption { file: file.to_owned(), value: value.into_bytes() })
}

/// Whether a file of a cgroup is about its processes, or about what is in it: a process of root's writes what
/// a vassal's file says, which could then name the processes of others.
fn is_no_limit(file: &str) -> bool {
    const LIMITS: [&str; 2] = ["cgroup.max.depth", "cgroup.max.descendants"];
    const OF_VERSION_1: [&str; 3] = ["tasks", "notify_on_release", "release_agent"];
    file.starts_with("cgroup.") && !LIMITS.contains(&file) || OF_VERSION_1.contains(&file)
}

/// A size in bytes.
fn size(text: &[u8]) -> Option<String> {
    let (number, unit) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    let factor = match unit {
        b"" => 1,
        b"K" | b"k" => 1 << 10,
        b"M" | b"m" => 1 << 20,
        b"G" | b"g" => 1 << 30,
        _ => return None,
    };
    integer::<u64>(number)?.checked_mul(factor).map(|bytes| bytes.to_string())
}

/// A share of processor time. In percent it is a share of 100 ms, the kernel's default period.
fn share(text: &[u8]) -> Option<String> {
    let (quota, period) = match text.strip_suffix(b"%") {
        Some(percent) => (integer::<u64>(percent)?.checked_mul(1000)?, 100_000),
        None => {
            let (quota, period) = split_once(text, b' ')?;
            (integer(quota)?, integer(period)?)
        }
    };
    (quota > 0).then(|| format!("{quota} {period}"))
}

/// A whole number between these bounds, which may be negative.
pub(crate) fn between(text: &[u8], least: i32, most: i32) -> Parsed<i32> {
    let (number, sign) = text.strip_prefix(b"-").map_or((text, 1), |number| (number, -1));
    let value = integer::<i32>(number).map(|number| sign * number);
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("{} is not a number from {least} to {most}", quoted(text)))
}

/// A user or group: a number or a name.
pub(crate) fn id(text: &[u8]) -> Parsed<Id> {
    if text.is_empty() {
        return Err("the value is missing".to_owned());
    }
    if text.iter().all(u8::is_ascii_digit) {
        // For the kernel the largest number means "unchanged" (setresuid(2)).
        let number = integer(text).filter(|&number| number < u32::MAX);
        return number.map(Id::Number).ok_or_else(|| format!("{} is too large for an id", quoted(text)));
    }
    match std::str::from_utf8(text) {
        Ok(name) if !text.iter().any(|byte| b",;:=<>\"`('/ ".contains(byte)) => Ok(Id::Name(name.to_owned())),
        _ => Err(format!("{} is not a name", quoted(text))),
    }
}

/// A signal by name, with or without `SIG`, or by number.
pub(crate) fn signal(text: &[u8]) -> Parsed<i32> {
    let name = String::from_utf8_lossy(text).to_ascii_uppercase();
    signal_names::number(&name).ok_or_else(|| format!("{} is not a signal", quoted(text)))
}

/// File mode bits in octal, up to `max`.
pub(crate) fn octal(text: &[u8], max: u32) -> Parsed<u32> {
    // `from_str_radix` would accept a sign.
    let digits = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    let bits = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    bits.filter(|&bits| bits <= max)
        .ok_or_else(|| format!("{} is not an octal mode: write 022", quoted(text)))
}

/// A path; blanks are part of it.
pub(crate) fn path(text: &[u8]) -> Parsed<PathBuf> {
    self::text(text).map(PathBuf::from)
}

/// A path from the root.
pub(crate) fn absolute(text: &[u8]) -> Parsed<PathBuf> {
    let path = path(text)?;
    if path.is_absolute() { Ok(path) } else { Err(format!("'{}' is not an absolute path", path.display())) }
}

/// A place for output.
pub(crate) fn output(text: &[u8]) -> Parsed<Output> {
    match text {
        b"inherit" => Ok(Output::Inherit),
        b"journal" => Ok(Output::Journal),
        b"null" => Ok(Output::Null),
        _ => match text.strip_prefix(b"file:") {
            Some(path) => absolute(path).map(Output::File),
            None => Err(format!("{} is none of inherit, journal, null and file:PATH", quoted(text))),
        },
    }
}

/// `default`, `none` or a file.
pub(crate) fn seccomp(text: &[u8]) -> Parsed<Seccomp> {
    match text {
        b"none" => Ok(Seccomp::None),
        b"default" => Ok(Seccomp::Default),
        [b'/', ..] => path(text).map(Seccomp::File),
        _ => Err(format!("{} is none of default, none and an absolute path", quoted(text))),
    }
}

/// An address to listen at: the path of a unix socket, `@name` for an abstract one, or `HOST:PORT`, where an
/// empty host is every address of this machine. Names are not looked up.
pub(crate) fn address(text: &[u8]) -> Parsed<Address> {
    let name = String::from_utf8_lossy(text).into_owned();
    // As `tcp://HOST:PORT` or `unix:/path`.
    let is_file =
        (text.contains(&b'/') || !text.contains(&b':')) && !has_scheme(text) && !text.starts_with(b":");
    // A port alone.
    let is_number = text.iter().all(u8::is_ascii_digit) && !text.is_empty();
    let place = match text {
        [b'@', name @ ..] if !name.is_empty() => Place::Abstract(name.to_vec()),
        _ if is_file && !is_number && !text.starts_with(b"unix:") => Place::File(path(text)?),
        _ => {
            let full = if text.starts_with(b":") { format!("0.0.0.0{name}") } else { name.clone() };
            let wrong = || {
                format!(
                    "{} is not an address: write 127.0.0.1:9191, [::1]:9191, :9191 or /path",
                    quoted(text)
                )
            };
            full.parse().map(Place::Internet).map_err(|_| wrong())?
        }
    };
    Ok(Address { name, place })
}

/// An [`address`] that means the same wherever a process is.
pub(crate) fn absolute_address(text: &[u8]) -> Parsed<Address> {
    let address = address(text)?;
    match &address.place {
        Place::File(path) if path.is_relative() => {
            Err(format!("'{}' is not an absolute path", path.display()))
        }
        _ => Ok(address),
    }
}

/// `notify`, `exec:COMMAND` or `tcp://ADDRESS`.
pub(crate) fn ready_check(text: &[u8]) -> Parsed<ReadyCheck> {
    if let Some(address) = text.strip_prefix(b"tcp://") {
        return absolute_address(address).map(ReadyCheck::Connect);
    }
    match text.strip_prefix(b"exec:") {
        Some(command) => self::text(command).map(ReadyCheck::Exec),
        None if text == b"notify" => Ok(ReadyCheck::Notify),
        None => Err(format!("{} is none of notify, exec:COMMAND and tcp://ADDRESS", quoted(text))),
    }
}

/// A host name, at most as long as sethostname(2) takes it.
pub(crate) fn hostname(text: &[u8]) -> Parsed<OsString> {
    if text.len() > 64 {
        return Err(format!("{} is longer than 64 bytes", quoted(text)));
    }
    self::text(text)
}

/// `NEW_ROOT PUT_OLD`.
pub(crate) fn pivot_root(text: &[u8]) -> Parsed<PivotRoot> {
    let (new_root, put_old) = split_once(text, b' ').ok_or("it takes two paths: NEW_ROOT PUT_OLD")?;
    let (new_root, put_old) = (absolute(new_root)?, absolute(put_old.trim_ascii_start())?);
    if !put_old.starts_with(&new_root) {
        return Err(format!(
            "the old root cannot go to '{}': that is not at or beneath the new root '{}'",
            put_old.display(),
            new_root.display()
        ));
    }
    Ok(PivotRoot { new_root, put_old })
}

/// `NAME=VALUE`.
pub(crate) fn env_set(text: &[u8]) -> Parsed<EnvChange> {
    match split_once(text, b'=') {
        None | Some((b"", _)) => Err(format!("{} is not NAME=VALUE", quoted(text))),
        Some((name, value)) => {
            Ok(EnvChange::Set(OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
        }
    }
}

/// The name of an environment variable.
pub(crate) fn env_unset(text: &[u8]) -> Parsed<EnvChange> {
    if text.is_empty() || text.contains(&b'=') {
        return Err(format!("{} is not the name of a variable", quoted(text)));
    }
    Ok(EnvChange::Unset(OsString::from_vec(text.to_vec())))
}

/// `KEY=VALUE`, as a whole.
pub(crate) fn assignment(value: &[u8]) -> Parsed<OsString> {
    match split_once(value, b'=') {
        None | Some((b"" | [.., b' '], _)) => Err(format!("{} is not KEY=VALUE", quoted(value))),
        Some(_) => text(value),
    }
}

/// The names that uWSGI has for namespaces (and `cgroup`), with their `CLONE_NEW*` bits.
static NAMESPACES: Names<u64> = names![
    ("cgroup", libc::CLONE_NEWCGROUP as u64),
    ("fs", libc::CLONE_NEWNS as u64),
    ("ipc", libc::CLONE_NEWIPC as u64),
    ("mnt", libc::CLONE_NEWNS as u64),
    ("mount", libc::CLONE_NEWNS as u64),
    ("net", libc::CLONE_NEWNET as u64),
    ("ns", libc::CLONE_NEWNS as u64),
    ("pid", libc::CLONE_NEWPID as u64),
    ("user", libc::CLONE_NEWUSER as u64),
    ("uts", libc::CLONE_NEWUTS as u64),
];

/// A list of namespaces, separated by commas, as `CLONE_NEW*` bits.
pub(crate) fn namespaces(list: &[u8]) -> Parsed<u64> {
    match bits("namespace", &NAMESPACES, list)? {
        0 => Err("the value is missing".to_owned()),
        bits => Ok(bits),
    }
}

/// A part of the map of a user namespace: `auto` or `INSIDE:OUTSIDE:COUNT`.
pub(crate) fn id_map(text: &[u8]) -> Parsed<IdMap> {
    if text == b"auto" {
        return Ok(IdMap::Auto);
    }
    let mut parts = text.split(|&byte| byte == b':');
    let mut number = || parts.next().and_then(integer::<u32>);
    let range = IdRange {
        inside: number().unwrap_or(u32::MAX),
        outside: number().unwrap_or(u32::MAX),
        count: number().unwrap_or_default(),
    };
    // The largest number is no ID.
    let is_possible = range.inside.max(range.outside).checked_add(range.count).is_some();
    match range.count {
        1.. if is_possible && parts.next().is_none() => Ok(IdMap::Range(range)),
        _ => Err(format!("{} is neither 'auto' nor INSIDE:OUTSIDE:COUNT, as 0:100000:65536", quoted(text))),
    }
}

/// A list of names of a table, separated by commas, as bits. A bit in the upper half clears the same bit of
/// the lower half, so that the last name counts, as with mount flags.
pub(crate) fn bits(what: &str, table: &Names<u64>, names: &[u8]) -> Parsed<u64> {
    let mut bits: u64 = 0;
    for name in list(names) {
        let named = pick(what, table, name)?;
        bits = bits & !named.rotate_left(32) | named;
    }
    Ok(bits)
}

/// The members of a list that is separated by commas.
pub(crate) fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

/// The entry of a name in a table.
pub(crate) fn pick<T: Copy + PartialEq>(what: &str, table: &Names<T>, name: &[u8]) -> Parsed<T> {
    table.find(name).ok_or_else(|| not_one_of(what, name, &table.names()))
}

/// The message about an unknown name: with the one that was probably meant, or with all of them.
pub(super) fn not_one_of(what: &str, name: &[u8], names: &[&str]) -> String {
    match suggest::probable(&String::from_utf8_lossy(name), names) {
        Some(close) => format!("unknown {what} {}, did you mean '{close}'?", quoted(name)),
        None => format!("unknown {what} {} (there are {})", quoted(name), names.join(", ")),
    }
}

/// The words of a command, split as a shell does: blanks separate; `'…'`, `"…"` and `\` quote. Nothing is
/// expanded.
pub(crate) fn words(text: &[u8]) -> Parsed<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => words.extend(word.take()),
            b'\\' => {
                let escaped =
                    bytes.next().ok_or("a backslash at the end escapes nothing: a value is one line")?;
                word.get_or_insert_default().push(escaped);
            }
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next().ok_or("a quote ' is not closed")? {
                        b'\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next().ok_or("a quote \" is not closed")? {
                        b'"' => break,
                        b'\\' => match bytes.next().ok_or("a quote \" is not closed")? {
                            escaped @ (b'"' | b'\\' | b'$' | b'`') => word.push(escaped),
                            other => word.extend([b'\\', other]),
                        },
                        inner => word.push(inner),
                    }
                }
            }
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    if words.first().is_none_or(Vec::is_empty) {
        return Err("the program is missing".to_owned());
    }
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

/// A text in quotes, for a message.
pub(crate) fn quoted(text: &[u8]) -> String {
    format!("'{}'", String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_cgroups() {
        let option = |key: &str, text: &str| {
            let option = cgroup_option(key, text.as_bytes())?;
            Ok::<_, String>(format!("{} {}", option.file, String::from_utf8_lossy(&option.value)))
        };
        for (key, text, expected) in [
            ("memory-max", "64M", "memory.max 67108864"),
            ("memory-max", "4096", "memory.max 4096"),
            ("memory-max", "max", "memory.max max"),
            ("cpu-max", "50%", "cpu.max 50000 100000"),
            ("cpu-max", "20000 50000", "cpu.max 20000 50000"),
            ("pids-max", "7", "pids.max 7"),
            ("cgroup-opt", "memory.swap.max=a=b", "memory.swap.max a=b"),
            ("cgroup-opt", "cgroup.max.depth=3", "cgroup.max.depth 3"),
            ("cgroup-opt", "cgroup.max.descendants=3", "cgroup.max.descendants 3"),
        ] {
            assert_eq!(option(key, text).as_deref(), Ok(expected), "{key} {text}");
        }
        let bad =
            [("memory-max", "64X"), ("memory-max", ""), ("memory-max", "99999999999G"), ("cpu-max", "0%")];
        for (key, text) in [
            &bad[..],
            &[("cpu-max", "50"), ("pids-max", "-1"), ("cgroup-opt", "x"), ("cgroup-opt", "../x=1")],
        ]
        .concat()
        {
            assert!(option(key, text).is_err(), "{key} {text}");
        }
        let of_processes = "cgroup.procs cgroup.threads cgroup.kill cgroup.freeze cgroup.type \
                            cgroup.subtree_control cgroup.event_control tasks release_agent";
        for file in of_processes.split(' ') {
            let said = option("cgroup-opt", &format!("{file}=1"));
            assert!(said.is_err_and(|said| said.contains(" is no limit: ")), "{file}");
        }
    }

    #[test]
    fn ranges_of_ids() {
        let range = |inside, outside, count| Ok(IdMap::Range(IdRange { inside, outside, count }));
        assert_eq!(id_map(b"auto"), Ok(IdMap::Auto));
        assert_eq!(id_map(b"0:100000:65536"), range(0, 100_000, 65_536));
        assert_eq!(id_map(b"4294967294:0:1"), range(u32::MAX - 1, 0, 1));
        for text in ["", "0", "0:1", "0:1:0", "0:1:1:1", "4294967295:0:1", "0:4294967290:6", "a:0:1", "0::1"]
        {
            assert!(id_map(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_in_bounds() {
        let number = |text: &str| between(text.as_bytes(), -1000, 19);
        assert_eq!((number("-1000"), number("19"), number("0")), (Ok(-1000), Ok(19), Ok(0)));
        for text in ["-1001", "20", "--1", "+1", "", "-", "1.5", "99999999999"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let good = [
            ("5", 5000),
            ("1.5", 1500),
            ("250ms", 250),
            ("5s", 5000),
            ("2m", 120_000),
            ("0.25m", 15_000),
            ("1h", 3_600_000),
            ("0", 0),
        ];
        for (text, milliseconds) in good {
            assert_eq!(duration(text.as_bytes()), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "x", "5x", ".5", "5.", "-1", "1.2.3", "99999999999999999999", "9999999h", "1e3", "5 s"]
        {
            assert!(duration(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn ids() {
        assert_eq!(id(b"0"), Ok(Id::Number(0)));
        assert_eq!(id(b"user001"), Ok(Id::Name("user001".into())));
        assert_eq!(id(b"-1"), Ok(Id::Name("-1".into())));
        assert!(id(b"4294967295").is_err() && id(b"").is_err() && id(b"\xff").is_err());
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let cases: [(&str, &[&str]); 6] = [
            ("a b\tc", &["a", "b", "c"]),
            ("  a  'b c'  ", &["a", "b c"]),
            (r#"a "b \" \n $x" c\ d"#, &["a", r#"b " \n $x"#, "c d"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("a '' \"\"", &["a", "", ""]),
            ("sh -c 'echo \"x\"; sleep 1'", &["sh", "-c", "echo \"x\"; sleep 1"]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text.as_bytes()), Ok(expected.iter().map(OsString::from).collect()), "{text}");
        }
        for text in ["", "  ", "a 'b", "a \"b", "a \"b\\", "a\\", "''"] {
            assert!(words(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn other_values() {
        assert_eq!((octal(b"022", 0o777), octal(b"1777", 0o7777)), (Ok(0o22), Ok(0o1777)));
        for wrong in [&b"8"[..], b"1777", b"", b"+7"] {
            assert!(octal(wrong, 0o777).is_err());
        }
        assert_eq!(namespaces(b"fs, pid"), Ok((libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64));
        assert!(namespaces(b"fs,pidd").is_err() && namespaces(b"").is_err());
        assert_eq!((signal(b"term"), signal(b"SIGINT")), (Ok(15), Ok(2)));
        assert_eq!((boolean(b""), boolean(b"True"), boolean(b"off")), (Ok(true), Ok(true), Ok(false)));
        assert!(boolean(b"maybe").is_err());
        assert_eq!(env_set(b"A=b=c"), Ok(EnvChange::Set("A".into(), "b=c".into())));
        assert!(env_set(b"A").is_err() && env_set(b"=b").is_err() && env_unset(b"A=b").is_err());
    }
}
