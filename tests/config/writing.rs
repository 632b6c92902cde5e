//! Slips in files: each is told of with its place, what is wrong and what to write, and right lines are not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::common::{Sandbox, run, sandboxed};

/// Lines below `[uwsgi]` with a slip; line and column of what is said, and a part of the message and of the
/// hint.
const SLIPS: &[(&str, &str, &str, &str)] = &[
    ("http-socket = :1\nproceses = 4", "3:1", "unknown option 'proceses'", "did you mean 'processes'?"),
    ("http-socket = :1\nmastre = true", "3:1", "unknown option 'mastre'", "did you mean 'master'?"),
    (
        "http-socket = :1\ntouch-reload = /x",
        "3:1",
        "'touch-reload' ends uWSGI here",
        "touch the vassal's file",
    ),
    (
        "http-socket = :1\npy-autoreload = 1",
        "3:1",
        "'py-autoreload' ends uWSGI here",
        "touch the vassal's file",
    ),
    ("http-socket = :1\nchdir = /x\npidfile = a", "4:11", "'pidfile' is in 'chdir' here", "from the root"),
    (
        "http-socket = :1\nchdir = /x\ndaemonize = ./a",
        "4:13",
        "'daemonize' is in 'chdir' here",
        "from the root",
    ),
    ("http-socket = :1\nchmod-socket = 0666", "3:16", "'chmod-socket': uWSGI takes three digits", ""),
    ("http-socket = :1\nMASTER = 1", "3:1", "unknown option 'MASTER'", "did you mean 'master'?"),
    ("http-socket = :1\nlazy_apps = 1", "3:1", "unknown option 'lazy_apps'", "did you mean 'lazy-apps'?"),
    ("http-socket = :1\nprocesses: 4", "3:1", "unknown option 'processes: 4'", "write 'processes = ...'"),
    ("http-socket = :1\nthreads 4", "3:1", "unknown option 'threads 4'", "write 'threads = ...'"),
    ("--uid = nobody", "2:1", "unknown option '--uid'", "did you mean 'uid'?"),
    ("\"uid\": \"nobody\",", "2:1", "unknown option", "did you mean 'uid'?"),
    ("uid\u{ff1a}nobody", "2:1", "unknown option", "write 'uid = ...'"),
    ("user: nobody", "2:1", "unknown option 'user: nobody'", "did you mean 'uid'?"),
    ("uid = nobody,", "2:7", "'uid': 'nobody,' is not a name", ""),
    ("gid => nogroup", "2:6", "'gid': '> nogroup' is not a name", ""),
    ("hook-as-root: print:x", "2:1", "unknown phase", "write 'hook-as-root = ...'"),
    ("hook-as-root = mount;proc none /p", "2:16", "is not action:argument: write 'mount:proc none /p'", ""),
    ("hook-as-root = mount:-t proc none /p", "2:16", "it takes TYPE SOURCE TARGET FLAGS DATA", ""),
    ("log-dir = /x", "2:1", "'log-dir' only counts in the emperor's file", ""),
    ("command = ~/run", "2:11", "'~/run' is an argument", "sh -c"),
    ("http-socket = :1\nif-uid = 0", "3:1", "unknown option 'if-uid'", ""),
    ("; share is 50%\nuid = nobody", "2:14", "joins the next line to this one", "write '%%'"),
    ("uid nobody", "2:1", "unknown option 'uid nobody'", "write 'uid = ...'"),
    ("uid\tnobody", "2:1", "unknown option", "write 'uid = ...'"),
    ("command: sleep 1", "2:1", "unknown option 'command: sleep 1'", "write 'command = ...'"),
    ("Uid = nobody", "2:1", "unknown option 'Uid'", "did you mean 'uid'?"),
    ("STOP-TIMEOUT = 3s", "2:1", "unknown option 'STOP-TIMEOUT'", "did you mean 'stop-timeout'?"),
    (
        "uid = \u{201c}nobody\u{201d}",
        "2:7",
        "'uid': the typographic quotes or blanks are part of",
        "write plain",
    ),
    ("command = \u{201c}sleep\u{201d} 1", "2:11", "'command': the typographic quotes or", "write plain ones"),
    ("command = sleep\u{a0}1", "2:11", "'command': the typographic quotes or blanks", "write plain ones"),
    ("chdir = /srv\u{a0}", "2:9", "'chdir': the typographic quotes or blanks", "write plain ones"),
    ("uid = nobody\u{a0}", "2:7", "'uid': the typographic quotes or blanks", "write plain ones"),
    ("uid = 'nobody", "2:7", "'uid': ''nobody' is not a name", ""),
    ("add-gid = a b", "2:11", "'add-gid': 'a b' is not a name", ""),
    ("chown-socket = a b", "2:16", "'chown-socket': 'a b' is not a name", ""),
    ("hook-as-root = chown:a:b /x", "2:16", "'hook-as-root': '/x' is not a name", ""),
    ("hook-as-root = mount:none /a /b bind ro", "2:16", "a bind has no DATA: write 'bind,FLAG'", ""),
    (
        "chdir = /srv/app;",
        "2:9",
        "'chdir': ';' and what follows it are part",
        "a comment is a line of its own",
    ),
    ("replica = 2", "2:1", "unknown option 'replica'", "did you mean 'replicas'?"),
    ("restart = always", "2:1", "unknown option 'restart'", ""),
    ("cmd = x", "2:1", "unknown option 'cmd'", "did you mean 'command'?"),
    ("http-socket = :1\nentrypoint = x", "3:1", "unknown option 'entrypoint'", "did you mean 'command'?"),
    ("working_dir = /srv", "2:1", "unknown option 'working_dir'", "did you mean 'chdir'?"),
    ("if-env = NOPE\nelse if = x\nendif =", "3:1", "unknown option 'else if'", "did you mean 'else'?"),
    ("if-env = NOPE\nelif = x\nendif =", "3:1", "unknown option 'elif'", "did you mean 'else'?"),
    ("if-env = NOPE\nelse:\nendif =", "3:1", "unknown option 'else:'", "did you mean 'else'?"),
    ("chdir = \"/tmp\"", "2:9", "'chdir': the quotes are part of the value", "write it without the quotes"),
    ("uid = nobody # x", "2:7", "'uid': 'nobody # x' is not a name", "a comment is a line of its own"),
    ("command = sleep 1 ; the app", "2:11", "';' is an argument", "a comment is a line of its own"),
    ("stop-timeout = 5s ; wait", "2:16", "'5s ; wait' is not a duration", "';' and what follows it"),
    ("if-nto-reload =", "2:1", "unknown option 'if-nto-reload'", "did you mean 'if-not-reload'?"),
    ("if-exist = /x", "2:1", "unknown option 'if-exist'", "did you mean 'if-exists'?"),
    ("for-each = 1 2", "2:1", "unknown option 'for-each'", "did you mean 'for'?"),
    ("if-not-env = NOPE\nend if =", "3:1", "unknown option 'end if'", "did you mean 'endif'?"),
    ("elseif =", "2:1", "unknown option 'elseif'", "did you mean 'else'?"),
    ("emperor-use-clone = pid", "2:1", "'emperor-use-clone' only counts in the emperor's file", ""),
    ("http-socket = :1\nemperor-use-clone = pid", "3:1", "only counts in the emperor's file", ""),
    ("emperor-throttle = 1", "2:1", "'emperor-throttle' only counts in the emperor's file", ""),
    ("emperor-tyrant = true", "2:1", "'emperor-tyrant' only counts in the emperor's file", ""),
    ("vassal-set = a=b", "2:1", "'vassal-set' only counts in the emperor's file", ""),
    ("vassals-include = x", "2:1", "'vassals-include' only counts in the emperor's file", ""),
    ("metrics = :1", "2:1", "'metrics' only counts in the emperor's file", ""),
    ("control = /x", "2:1", "'control' only counts in the emperor's file", ""),
    ("exec-as-emperor = x", "2:1", "'exec-as-emperor' only counts in the emperor's file", ""),
    (
        "hook-as-root = mount proc none /proc",
        "2:16",
        "is not action:argument: write 'mount:proc none /proc'",
        "",
    ),
    ("hook-as-root = mount:tmpfs none /tmp size=10m", "2:16", "write 'defaults size=10m'", ""),
    ("mount-as-root = overlay o /x lowerdir=/a", "2:17", "write 'defaults lowerdir=/a'", ""),
    ("command = cd /srv && ./run > log", "2:11", "'&&' is an argument, as there is no shell", "sh -c '...'"),
    ("command = a | b", "2:11", "'|' is an argument, as there is no shell", "sh -c '...'"),
    ("command = a $HOME", "2:11", "'$HOME' is an argument, as there is no shell", "sh -c '...'"),
    ("command = \"sleep 100\"", "2:11", "is taken for the program", "without the quotes"),
    ("command = A=b prog", "2:11", "'A=b' is taken for the program", "write 'env = NAME=VALUE'"),
    ("hook-as-root = exce:true", "2:16", "unknown action 'exce', did you mean 'exec'?", ""),
    ("mount-as-root = none /a /b bnid", "2:17", "unknown mount flag 'bnid', did you mean 'bind'?", ""),
    ("cap = sys_admn", "2:7", "unknown capability 'sys_admn', did you mean 'sys_admin'?", ""),
    ("command = [\"python\", \"app.py\"]", "2:11", "is taken for the program", "without brackets"),
    ("chdir = /srv/\\", "2:9", "'chdir': a value is one line", "all of it in this one"),
    ("mountpoint-check = /a, /b", "2:20", "'mountpoint-check': it is one path", "a line for each"),
    ("listen = /run/a /run/b", "2:10", "'listen': it is one path", "a line for each"),
    ("command = exec ./run", "2:11", "'exec' is taken for the program", "sh -c '...'"),
    ("command = source venv/bin/activate", "2:11", "'source' is taken for the program", "sh -c '...'"),
    ("command = ./run \\", "2:11", "escapes nothing: a value is one line", ""),
    ("env = A = b", "2:7", "'env': a blank is part of the name", "NAME=VALUE"),
    ("env = export A=b", "2:7", "'env': a blank is part of the name", "NAME=VALUE"),
    ("env = A=\"b c\"", "2:7", "'env': the quotes are part of the value", "without the quotes"),
    ("env = PATH=/x:$PATH", "2:7", "'env': the value of a variable is $(NAME)", "write it so"),
    ("env = PATH=/x:${PATH}", "2:7", "'env': the value of a variable is $(NAME)", "write it so"),
    ("export A=b", "2:1", "unknown option 'export A'", "did you mean 'env'?"),
    ("environment = A=b", "2:1", "'environment'", "did you mean 'env'?"),
    ("ExecStart = x", "2:1", "unknown option 'ExecStart'", "did you mean 'command'?"),
    ("set uid = nobody", "2:1", "unknown option 'set uid'", "did you mean 'set'?"),
    ("chdir = ~/app", "2:9", "'chdir': '~' is no home here", "the whole path"),
    ("chdir = $HOME/app", "2:9", "'chdir': the value of a variable is $(NAME)", "write it so"),
    ("chdir = /srv/%(vasal)", "2:9", "'chdir': what is in parentheses has no value", "a line above"),
    ("chroot = $(NOPE)/x", "2:10", "'chroot': what is in parentheses has no value", "the environment"),
    ("uid = %(vasal)", "2:7", "'uid': '%(vasal)' is not a name", ""),
    ("listen = tcp://127.0.0.1:80", "2:10", "is not an address: write 127.0.0.1:9191", ""),
    ("listen = unix:/run/x.sock", "2:10", "is not an address: write 127.0.0.1:9191", ""),
    ("hook-as-root = mount: proc none /p", "2:16", "it takes TYPE SOURCE TARGET FLAGS DATA", ""),
    ("mount-as-root = mount:proc none /p", "2:17", "it takes TYPE SOURCE TARGET FLAGS DATA", ""),
    ("mount-as-root = /a /b bind", "2:17", "it takes TYPE SOURCE TARGET FLAGS DATA", ""),
    ("exec-as-root = exec:x", "2:16", "write it without 'exec:'", ""),
    ("listen = 8080", "2:10", "'listen': a number is the length of a queue", "write ':NUMBER' for a port"),
    ("// a comment", "2:1", "unknown option '// a comment'", "a comment begins with ';' or '#'"),
    ("/* a comment */", "2:1", "unknown option '/* a comment */'", "a comment begins with ';' or '#'"),
    ("stop-timeout = 10sec", "2:16", "'10sec' is not a duration: write 5, 1.5, 250ms, 5s or 2m", ""),
    ("memory-max = 1gb", "2:14", "'1gb' is not a size: write 512M, or max", ""),
    ("cap = nothing", "2:7", "unknown capability 'nothing' (there are chown, ", ""),
];

/// Whole files without a line for `[uwsgi]`.
const HEADERS: &[(&str, &str, &str)] = &[
    ("\u{feff}[uwsgi]\ncommand = x\n", "1:1", "the file begins with a byte order mark: save it without"),
    ("; a\n[vassal]\ncommand = x\n", "2:1", "write '[uwsgi]' in the place of '[vassal]'"),
    ("[UWSGI]\ncommand = x\n", "1:1", "write '[uwsgi]' in the place of '[UWSGI]'"),
    ("\ncommand = x\n", "2:1", "write a line '[uwsgi]' above this one"),
    ("[ uwsgi ]\ncommand = x\n", "1:1", "write '[uwsgi]' in the place of '[ uwsgi ]'"),
    ("[uwsgi] ; x\ncommand = x\n", "1:1", "write '[uwsgi]' in the place of '[uwsgi] ; x'"),
    ("[program:a]\ncommand=x\n", "1:1", "'scripts/import' makes a vassal's file of it"),
    ("[Unit]\nAfter=a\n[Service]\nExecStart=x\n", "1:1", "'scripts/import' makes a vassal's file of it"),
    ("{\"uwsgi\": {\"command\": \"x\"}}\n", "1:1", "'scripts/import' makes a vassal's file of it"),
];

/// Right lines, of which nothing is said.
const RIGHT: &[&str] = &[
    "command = sh -c 'cd /srv && ./run > log; true'",
    "command = find . -exec rm {} \\; -name '*;' x=y",
    "command = x\nhook-as-root = mount:tmpfs none /tmp defaults size=10m",
    "command = x\nexec-as-root = a && b > c ; d # e",
    "command = x\nenv = GREETING=it\u{2019}s \"quoted\"#1;2",
    "command = x\n; 100% sure\n# %V",
    "command = %(domain)\ndomain = example.com",
    "command = \"/opt/my app/run\" 'a b'",
    "command = x\nlisten = /x\nchmod-socket = 0660",
    "http-socket = /x\nchmod-socket = 1",
    "command = [ -e /x ]",
    "command = x\nlisten = :1\nlisten = 8080\n[uwsgi-old]\na = b",
    "http-socket = :1\nlisten = 100",
    "command = x\nenv = A=it's 5$ $b {\"c\": \"d\"}\nenv = B=%%(message)s $(A)",
    "command = x\nchdir = /srv/my app/\nmountpoint-lost = hook:exec:a ; b $C",
    "command = x\nchdir\t=\t/srv \r\nstop-timeout = 5\r",
    "clean-env = yes\ncommand = x\nclean-env = off\n[other]\na = 1\n[uwsgi]\numask = 0022",
    "http-socket = :1\nmy-placeholder = 1\nprojekt = x",
    "http-socket = :1\nhttp-timeout = 15\npyhome = /venv\nchdir2 = /x\nvassal-sos-backlog = 3",
    "http = :1\nsocket = :2",
    "http-socket = :0",
    "strict = true\nhttp-socket = :1\nmaster = true\nvacuum = true",
    "command = x\nif-env = NOPE\nelastic = x\nelse =\nendif\ncap-drop = ALL",
];

fn check(sandbox: &Sandbox, text: &str) -> (i32, String) {
    let file = sandbox.path("slip.ini");
    fs::write(&file, text).unwrap();
    let output = sandbox.program("vassal-init").args(["--check", file.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said.replace(file.to_str().unwrap(), "FILE"))
}

#[test]
fn a_slip_is_told_of_with_its_place_and_what_to_write() {
    sandboxed(|sandbox| {
        for (lines, place, message, hint) in SLIPS {
            let app = if lines.contains("http-socket") { "" } else { "command = x\n" };
            let (_, said) = check(sandbox, &format!("[uwsgi]\n{lines}\n{app}uid = root\n"));
            let finding = said.split("FILE:").find(|finding| finding.starts_with(&format!("{place}: ")));
            let finding = finding.unwrap_or_else(|| panic!("{lines}: nothing at {place} in {said}"));
            assert!(finding.lines().next().unwrap().contains(message), "{lines}: {finding}");
            let told = finding.lines().find_map(|line| line.strip_prefix("  hint: ")).unwrap_or_default();
            assert!(told.contains(hint), "{lines}: {finding}");
            // A list of all names is for where none is near.
            assert!(!finding.contains("did you mean") || !finding.contains("(there are"), "{finding}");
        }
        for (text, place, hint) in HEADERS {
            let (status, said) = check(sandbox, text);
            let told = format!("FILE:{place}: there is no option in a section [uwsgi]\n");
            assert!(status == 78 && said.starts_with(&told), "{text}: {said}");
            assert!(said.ends_with(&format!("  hint: {hint}\n")), "{text}: {said}");
        }
    });
}

#[test]
fn what_a_command_prints_is_not_taken_for_missing() {
    sandboxed(|sandbox| {
        let (status, said) = check(sandbox, "[uwsgi]\ngid = @(exec://id -g nobody)\nuid = 1\ncommand = x\n");
        let told = "FILE:2:7: warning: not looked at: a check runs no command";
        assert!(status == 0 && said.starts_with(told) && said.matches("FILE").count() == 1, "{said}");
    });
}

#[test]
fn nothing_is_said_of_right_lines() {
    sandboxed(|sandbox| {
        for lines in RIGHT {
            let (status, said) = check(sandbox, &format!("[uwsgi]\nuid = root\n{lines}\n"));
            assert_eq!((status, &*said), (0, ""), "{lines}");
        }
    });
}

#[test]
fn lines_above_the_section_are_told_of() {
    sandboxed(|sandbox| {
        let (status, said) = check(sandbox, "; a\numask = 077\n[uwsgi]\nuid = root\ncommand = x\n");
        let told =
            "FILE:2:1: warning: it has no effect: options stand below a line '[uwsgi]'\n    umask = 077\n";
        assert!(status == 0 && said.starts_with(told), "{said}");
        for header in ["[uwsgi", "[UWSGI]", "[ uwsgi ]", "[uwsgi]]", "[[uwsgi]]"] {
            let (status, said) =
                check(sandbox, &format!("[uwsgi]\ncommand = x\nuid = root\n\n{header}\nuid = nobody\n"));
            let told = "FILE:5:1: warning: it has no effect: options stand below a line '[uwsgi]'\n";
            assert!(status == 0 && said.starts_with(told), "{header}: {said}");
        }
        let wide: Vec<u8> = "[uwsgi]\ncommand = x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (status, said) = check(sandbox, &String::from_utf8(wide).unwrap());
        assert!(status == 78 && said.contains("FILE:1:1: the line holds a NUL byte\n"), "{said}");
        assert!(said.ends_with("  hint: save the file as UTF-8\n"), "{said}");
    });
}

#[test]
fn a_slip_in_a_loop_is_told_of_once() {
    sandboxed(|sandbox| {
        let text = "[uwsgi]\nuid = root\ncommand = x\nfor = 1 2 3\nstop-timeout = x%(_)\nuid = %(_),\n\
                    env = A=%(_) # no\nhook-as-rot = exec:x\nmountpoint-chek = /%(_)\nendfor =\n\
                    stop-timeout = x1\n";
        let (_, said) = check(sandbox, text);
        let places = said.lines().filter_map(|line| line.strip_prefix("FILE:")?.split(": ").next());
        assert_eq!(places.collect::<Vec<_>>(), ["5:16", "6:7", "7:7", "8:1", "9:1", "11:16"], "{said}");
    });
}

#[test]
fn a_check_tells_of_files_that_the_user_cannot_have() {
    sandboxed(|sandbox| {
        run("mkdir", &["-m", "755", "/run/scratch/roots", "/run/scratch/roots/spool"]);
        run("mkdir", &["-m", "700", "/run/scratch/secret"]);
        run("mkdir", &["-m", "770", "/run/scratch/groups"]);
        for (file, mode) in [("there", 0o644), ("key", 0o600), ("log", 0o666), ("cert", 0o640)] {
            let path = sandbox.file(&format!("roots/{file}"), "");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let roots = "/run/scratch/roots";
        symlink("../secret", format!("{roots}/link")).unwrap();
        symlink("../secret/pid", format!("{roots}/pid")).unwrap();
        fs::write("/run/scratch/secret/pid", "").unwrap();
        let secret = "uWSGI is user 'user001', who may not search /run/scratch/secret\n".to_owned();
        let denied =
            |verb: &str, file: &str| format!("uWSGI is user 'user001', who may not {verb} {roots}/{file}\n");
        for (line, column, says) in [
            ("pidfile = ROOTS/there", 11, denied("write", "there")),
            ("daemonize = ROOTS/there", 13, denied("write", "there")),
            ("log-maxsize = 9\nlogto = ROOTS/there", 9, denied("write", "there")),
            ("spooler = ROOTS/spool", 11, denied("write", "spool")),
            ("spooler = ROOTS/none", 11, format!("there is no {roots}/none\n")),
            ("https-socket = :2,ROOTS/cert,ROOTS/key", 16, denied("read", "key")),
            ("https2 = addr=:2,cert=ROOTS/none,key=x", 10, format!("there is no {roots}/none\n")),
            ("pidfile = /run/scratch/secret/a", 11, secret.clone()),
            ("logto = /run/none/a", 9, "there is no /run/none\n".to_owned()),
            ("standard-output = file:/run/none/a", 19, "there is no /run/none\n".to_owned()),
            ("standard-output = file:/run/scratch", 19, "/run/scratch is a directory\n".to_owned()),
            ("logto = ROOTS", 9, format!("{roots} is a directory\n")),
            ("pidfile = ROOTS/link/pid", 11, secret.clone()),
            ("pidfile = ROOTS/pid", 11, secret.clone()),
        ] {
            let lines = line.replace("ROOTS", roots);
            let (status, said) =
                check(sandbox, &format!("[uwsgi]\nuid = user001\nhttp-socket = :1\n{lines}\n"));
            let key = lines.lines().last().unwrap().split(' ').next().unwrap();
            let at = 3 + lines.lines().count();
            let expected = format!("FILE:{at}:{column}: warning: '{key}': {says}");
            assert!(status == 0 && said.contains(&expected), "{expected}\n{said}");
            assert!(said.matches("warning").count() == 1 && said.contains("  hint: "), "{said}");
        }
        // Files that PID 1 makes; rights that a group may give; and what a hook may have made before.
        for lines in [
            "pidfile = ROOTS/new\nlogto = ROOTS/there\nhttps-socket = :2,ROOTS/there,ROOTS/cert",
            "daemonize = ROOTS/log\npidfile = /run/scratch/groups/there",
            "hook-as-root = mkdir:/run/none\nlogto = /run/none/a\nspooler = ROOTS/none",
            "chroot = /srv\nspooler = ROOTS/none",
        ] {
            let lines = lines.replace("ROOTS", roots);
            let (status, said) = check(sandbox, &format!("[uwsgi]\nuid = 1001\nhttp-socket = :1\n{lines}\n"));
            assert_eq!((status, &*said), (0, ""), "{lines}");
        }
    });
}

#[test]
fn strict_refuses_what_nobody_knows_and_takes_what_is_uwsgis() {
    sandboxed(|sandbox| {
        let (status, said) =
            check(sandbox, "[uwsgi]\nuid = root\nstrict = true\ncommand = x\nmaster = true\n");
        let told = "FILE:5:1: warning: 'master' has no effect: the app is another program than uWSGI\n";
        assert!(status == 0 && said.starts_with(told), "{said}");
        for app in ["command = x", "http-socket = :1"] {
            let text = format!("[uwsgi]\nuid = root\nstrict = true\n{app}\nmastre = true\n");
            let (status, said) = check(sandbox, &text);
            assert!(status == 78 && said.starts_with("FILE:5:1: unknown option 'mastre'\n"), "{app}: {said}");
        }
        let emperor = sandbox.ini("emperor", "emperor = /v\nstrict = true\nmaster = true\nvacuum = true");
        let output = sandbox.program("emperor").arg("--check").arg(&emperor).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.matches("has no effect: the emperor does not read it").count(), 2, "{said}");
    });
}

#[test]
fn an_emperors_file_is_told_the_emperors_own_key() {
    sandboxed(|sandbox| {
        let file = sandbox.ini("emperor", "emperor = /v\npidfile = /x\nstats = /y\nmaster = true");
        let output = sandbox.program("emperor").arg("--check").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let hints: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  hint: ")).collect();
        assert_eq!(hints, ["write 'emperor-pidfile'", "write 'emperor-stats'"], "{said}");
        assert_eq!(said.matches("has no effect").count(), 3, "{said}");
        for (line, said, hint) in [
            ("emperor = ~/v", "2:11: warning: 'emperor': '~' is no home here", "write the whole path"),
            ("emperor = /v /w", "2:11: warning: 'emperor': it is one path", "write a line for each"),
            (
                "emperor = /v\nlogto = $HOME/x",
                "3:9: warning: 'logto': the value of a variable",
                "write it so",
            ),
            ("emperor = /v\nmetrics = 9100", "3:11: 'metrics': '9100' is not an address: write ", ""),
            (
                "emperor = /v\nmetrics = :9100/metrics",
                "3:11: 'metrics': ':9100/metrics' is not an address",
                "",
            ),
            ("emperor = /v\nvassal-set = a = b", "3:14: 'vassal-set': 'a = b' is not KEY=VALUE", ""),
        ] {
            let file = sandbox.ini("emperor", line);
            let output = sandbox.program("emperor").arg("--check").arg(&file).output().unwrap();
            let all = String::from_utf8(output.stderr).unwrap();
            assert!(
                all.contains(&format!("{}:{said}", file.display())) && all.contains(hint),
                "{line}: {all}"
            );
        }
    });
}
