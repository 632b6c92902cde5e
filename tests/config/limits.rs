//! What a configuration may cost: every way to ask for more than that ends in a mistake that is explained,
//! soon and in little memory. Against the static binary, under a limit on address space and processor time
//! that the kernel keeps.

use std::process::Command;

use crate::common::{Sandbox, sandboxed};

/// Address space in bytes and processor time in seconds. What is allowed is many times what it takes.
const LIMITS: [&str; 3] = ["--as=100000000", "--cpu=5", "--core=0"];

/// What `--check` says of a file, within the limits.
fn said(sandbox: &Sandbox, text: &[u8]) -> (i32, String) {
    let file = sandbox.file("case.ini", "");
    std::fs::write(&file, text).unwrap();
    let program = sandbox.program("vassal-init").get_program().to_owned();
    let mut command = Command::new("prlimit");
    command.args(LIMITS).arg(program).arg("--check").arg("case.ini");
    let output = command.current_dir(file.parent().unwrap()).output().expect("prlimit must be installed");
    let status = output.status.code().unwrap_or_else(|| panic!("it died: {}", output.status));
    (status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn whatever_asks_for_too_much_is_refused() {
    sandboxed(|sandbox| {
        let many = |line: &str, count: usize| line.repeat(count);
        let cases: &[(&str, Vec<u8>, &str)] = &[
            ("size", many("a = b\n", 200_000).into(), "it is larger than 1 MiB"),
            ("options", many("a = b\n", 20_000).into(), "more than 10000 options"),
            ("depth and cycle", "include = case.ini\n".into(), "files include each other more than 16 deep"),
            (
                "files",
                (many("for-times = 9000\ninclude = small.ini\nendfor\n", 1)).into(),
                "more than 1000 files",
            ),
            ("loop", "for-times = 1000000000\na = b\nendfor\n".into(), "more repetitions than"),
            ("loops", many("for-times = 9999\na = b\nendfor\n", 50).into(), "more than 10000 options"),
            (
                "bytes",
                format!("for-times = 9999\na = {}\nendfor\n", "x".repeat(1000)).into(),
                "4 MiB once expanded",
            ),
            ("self-reference", "a = x%(a)\n".into(), "refers to itself"),
            ("reference in a circle", "a = x%(b)%(b)\nb = y%(a)%(a)\n".into(), "refers to itself"),
            (
                "doubling",
                (1..40)
                    .map(|n| format!("a{n} = %(a{0})%(a{0})\n", n - 1))
                    .collect::<String>()
                    .replace("%(a0)", "xy")
                    .into(),
                "expands without end",
            ),
            ("overflow", "n = 9223372036854775807\na = %(n + 1)\n".into(), "overflow"),
            ("underflow", "n = -9223372036854775808\na = %(n / m)\nm = -1\n".into(), "overflow"),
            ("division by zero", "n = 0\na = %(1 / n)\n".into(), "division by zero"),
            ("NUL", b"a = b\0c\n".to_vec(), "NUL byte"),
            ("brackets", format!("a = {}\n", "%(".repeat(300_000)).into(), ""),
            // What would take minutes, by work that is hidden in one line or repeated in many.
            (
                "sum",
                format!("a = {}\n{}", "0".repeat(500_000), many("b = %(a + a)\n", 9000)).into(),
                "too long",
            ),
            (
                "joined",
                format!("a = {}\nb = %({})\n", "0".repeat(500_000), many("a ", 200_000)).into(),
                "too long",
            ),
            ("words", format!("a = %({})\n", many("1 ", 400_000)).into(), ""),
            (
                "condition",
                format!("if-opt = {}\n{}endif\n", "x".repeat(900_000), many("a = 1\n", 9000)).into(),
                "",
            ),
            (
                "condition on a value",
                format!("a = {}\nif-opt = a\n{}endif\n", "x".repeat(900_000), many("b = 1\n", 9000)).into(),
                "",
            ),
            ("paths", format!("for-glob = {}\nendfor\n", many("/*", 1000)).into(), "too many names"),
            ("patterns", many("for-glob = /usr/*/*/*\nendfor\n", 2000).into(), "too many names"),
            ("lines", many("for-readline = big.txt\nendfor\n", 3000).into(), "more than 4 MiB of files"),
            ("files in values", many("a = @(big.txt)\n", 3000).into(), "more than 4 MiB of"),
            ("magic variables", many("%p", 500_000).into(), "magic variables"),
            (
                "commands",
                "command = true\nfor-times = 5000\na = @(exec://x)\nendfor\n".into(),
                "more than 20 commands and descriptors",
            ),
        ];
        sandbox.file("small.ini", "[uwsgi]\na = b\n");
        sandbox.file("big.txt", &many("x", 1_000_000));
        for (name, lines, expected) in cases {
            let (status, said) = said(sandbox, &[b"[uwsgi]\n", &lines[..]].concat());
            assert!(said.contains(expected), "{name}: {status} {}", said.get(..600).unwrap_or(&said));
            let app_is_missing = expected.is_empty() && said.contains("there is no app");
            assert_eq!(status, if expected.is_empty() && !app_is_missing { 0 } else { 78 }, "{name}");
            assert!(said.len() < 200_000, "{name}: {} bytes", said.len());
        }
    });
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    sandboxed(|sandbox| {
        for (line, expected) in [
            ("include = /dev/zero", "it is not a regular file"),
            ("a = @(/dev/tty)", "cannot read '/dev/tty'"),
            ("a = @(fifo)", "it is not a regular file"),
        ] {
            let fifo = sandbox.file("case.ini", "").with_file_name("fifo");
            let _ = rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0);
            let (status, said) = said(sandbox, format!("[uwsgi]\ncommand = true\n{line}\n").as_bytes());
            assert!(status == 78 && said.contains(expected), "{line}: {status} {said}");
        }
    });
}

#[test]
fn commands_run_at_a_start_but_not_for_a_check() {
    sandboxed(|sandbox| {
        let ini = sandbox
            .ini("vassal", "word = @(exec://echo hello; echo >> ran)\ncommand = echo %(word) @(fd://0)");
        let ran = ini.with_file_name("ran");
        let mut check = sandbox.program("vassal-init");
        let output = check.arg("--check").arg(&ini).current_dir(ini.parent().unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("a check runs no command"), "{said}");
        assert!(!ran.exists());
        let input = sandbox.file("input", "from a descriptor\n");
        let mut start = sandbox.program("vassal-init");
        start.arg(&ini).current_dir(ini.parent().unwrap()).stdin(std::fs::File::open(input).unwrap());
        let output = start.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello from a descriptor\n");
        assert!(ran.exists());
    });
}

#[test]
fn descriptors_that_hold_no_file_are_left_alone() {
    sandboxed(|sandbox| {
        for (name, expected) in [
            ("fd://99", "No such file or directory"),
            ("fd://x", "Bad file descriptor"),
            ("fd://0", "it is neither a regular file nor a pipe"),
            ("http://127.0.0.1/", "only files, fd:// and exec:// can be read"),
        ] {
            let mut start = sandbox.program("vassal-init");
            start.arg("--command").arg(format!("echo @({name})")).stdin(std::process::Stdio::null());
            let output = start.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(78) && said.contains(expected), "{name}: {said}");
        }
    });
}

#[test]
fn a_check_for_programs_is_json() {
    sandboxed(|sandbox| {
        let inner = sandbox.file("inner.ini", "[uwsgi]\nuid =\n");
        let outer = sandbox.file("outer.ini", "[uwsgi]\ncommand = \"\ninclude = inner.ini\n");
        let mut check = sandbox.program("vassal-init");
        check.args(["--check", "--json", "outer.ini"]).current_dir(inner.parent().unwrap());
        let output = check.output().unwrap();
        let expected = concat!(
            r#"[{"file":"outer.ini","line":2,"column":11,"severity":"error","#,
            r#""message":"'command': a quote \" is not closed","hint":null,"included_from":[]},"#,
            r#"{"file":"inner.ini","line":2,"column":1,"severity":"error","#,
            r#""message":"'uid': the value is missing","#,
            r#""hint":null,"included_from":[{"file":"outer.ini","line":3,"column":11}]}]"#,
            "\n"
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", outer.display());
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(78), &b""[..]));
    });
}

#[test]
fn options_are_shown_with_their_mistake() {
    sandboxed(|sandbox| {
        let output =
            sandbox.program("vassal-init").args(["--umask", "9", "--command", "true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected =
            "command line: 'umask': '9' is not an octal mode: write 022\n    --umask=9\n            ^\n";
        assert_eq!((output.status.code(), &*said), (Some(78), expected));
    });
}

#[test]
fn a_command_that_leaves_its_process_group_is_killed_all_the_same() {
    sandboxed(|sandbox| {
        let leave = "import os, time; os.setpgid(0, os.getpgid(os.getppid())); time.sleep(1000)";
        let script = sandbox.file("leave.py", leave);
        let file = sandbox.ini("vassal", &format!("command = @(exec://exec python3 {})", script.display()));
        let mut command = sandbox.program("vassal-init");
        command.arg(file);
        let mut vassal = sandbox.start("vassal", command);
        assert_eq!(vassal.wait(), 78);
        vassal.wait_for("not done after 10 s");
    });
}
