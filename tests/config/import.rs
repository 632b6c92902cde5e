//! `scripts/import`: the files of other supervisors as files of vassals, which a check finds no mistake in.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Sandbox, sandboxed};

/// Files of supervisord's and systemd's with what has a counterpart, and what has none.
const SUPERVISORD: &str = "\
[supervisord]
nodaemon=true

[program:web]
command=/srv/web/bin/gunicorn --bind 127.0.0.1:80%(process_num)02d app:app ; the app
directory=/srv/web
user=user001
numprocs=2
environment=PATH=\"/srv/web/bin:%(ENV_HOME)s\",SECRET='a,b 100%%'
autorestart=unexpected
stopsignal=QUIT
stopwaitsecs=30
stdout_logfile=/var/log/web.log
stdout_logfile_maxbytes=1MB

[program:worker]
command=bash -c \"cd %(here)s && exec ./%(program_name)s\"
stdout_logfile=/dev/fd/1
stderr_logfile=NONE
redirect_stderr=false

[fcgi-program:php]
command=php-fpm --nodaemonize
user=user001
socket=unix:///run/php.sock
socket_mode=0600
";
const SERVICE: &str = "\
[Unit]
After=network.target

[Service]
Type=notify
User=user001
Environment=PORT=8000 \"NAME=a b\"
ExecStartPre=+/bin/mkdir -p /run/web
ExecStartPre=-/bin/true
ExecStart=/usr/bin/web --port ${PORT} \\
    --name %N
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
TimeoutStopSec=1min 30s
LimitNOFILE=1024:65536
CPUQuota=50%
StandardOutput=append:/var/log/%N.log
StandardError=journal
SyslogIdentifier=web
PrivateTmp=yes
ProtectSystem=strict
RestrictRealtime=yes
ProtectClock=yes
";
const SOCKET: &str = "[Socket]\nListenStream=8080\nListenStream=/run/web.sock\nSocketMode=0660\n";

/// Runs the script. Returns what it prints.
fn import(sandbox: &Sandbox, words: &[&str]) -> String {
    let (is_done, output, error) = try_to_import(sandbox, words);
    assert!(is_done, "{error}");
    output
}

/// Runs the script. Returns whether it succeeds, and its output and errors.
fn try_to_import(sandbox: &Sandbox, words: &[&str]) -> (bool, String, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/import");
    let program = sandbox.program("vassal-init").get_program().to_owned();
    let programs = Path::new(&program).parent().unwrap();
    let mut command = Command::new("python3");
    let output = command.arg(script).args(words).arg("--check").arg(programs).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The lines of a file but the comments.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with(';')).collect()
}

fn checks(sandbox: &Sandbox, text: &str) {
    let file = sandbox.file("imported.ini", text);
    let output = sandbox.program("vassal-init").arg("--check").arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn programs_of_supervisords_become_vassals() {
    sandboxed(|sandbox| {
        let file = sandbox.file("supervisord.conf", SUPERVISORD);
        let into = sandbox.path("vassals");
        fs::create_dir(&into).unwrap();
        import(sandbox, &["supervisord", file.to_str().unwrap(), "--into", into.to_str().unwrap()]);
        let read = |name: &str| fs::read_to_string(into.join(name)).unwrap();
        let (web, worker, php) = (read("web.ini"), read("worker.ini"), read("php.ini"));
        assert_eq!(
            lines(&web),
            [
                "[uwsgi]",
                "command = /srv/web/bin/gunicorn --bind 127.0.0.1:%(replica + 7999) app:app",
                "chdir = /srv/web",
                "uid = user001",
                "replicas = 2",
                "env = PATH=/srv/web/bin:$(HOME)",
                "env = SECRET=a,b 100%%",
                "stop-signal = QUIT",
                "stop-timeout = 30",
                "standard-output = file:/var/log/web.log",
            ]
        );
        for part in
            ["\n; autorestart=unexpected: ", "\n; stdout_logfile_maxbytes=1MB: ", "; [supervisord] nodaemon"]
        {
            assert!(web.contains(part), "{part}: {web}");
        }
        let directory = file.parent().unwrap().display();
        let command = format!("command = bash -c \"cd {directory} && exec ./worker\"");
        assert_eq!(
            lines(&worker),
            ["[uwsgi]", "uid = root", &command, "standard-output = inherit", "standard-error = null",]
        );
        let expected =
            ["[uwsgi]", "command = php-fpm --nodaemonize", "uid = user001", "listen = /run/php.sock"];
        assert_eq!(lines(&php)[..4], expected);
        assert!(php.contains("\n; socket=unix:///run/php.sock: it is descriptor 3 here, not 0: "), "{php}");
        for text in [&web, &worker, &php] {
            checks(sandbox, text);
        }
    });
}

#[test]
fn a_service_and_its_socket_become_a_vassal() {
    sandboxed(|sandbox| {
        let files = [sandbox.file("web.service", SERVICE), sandbox.file("web.socket", SOCKET)];
        let [service, socket] = files.each_ref().map(|file| file.to_str().unwrap());
        let text = import(sandbox, &["systemd", service, socket]);
        assert_eq!(
            lines(&text),
            [
                "[uwsgi]",
                "ready-check = notify",
                "uid = user001",
                "env = PORT=8000",
                "env = NAME=a b",
                "exec-as-root = /bin/mkdir -p /run/web",
                "hook-pre-app = safeexec:/bin/true",
                "command = /usr/bin/web --port 8000 --name web",
                "reload-signal = HUP",
                "stop-timeout = 90",
                "limit-nofile = 65536",
                "cpu-max = 50%",
                "standard-output = file:/var/log/web.log",
                "standard-error = journal",
                "mount-as-root = tmpfs none /tmp nosuid,nodev mode=1777",
                "listen = :8080",
                "listen = /run/web.sock",
                "chmod-socket = 0660",
            ]
        );
        for part in [
            "; After=network.target: ",
            "; Restart=on-failure: ",
            "; ProtectSystem=strict: hooks mount ",
            "; RestrictRealtime=yes: seccomp = ",
            "; ProtectClock=yes: an app that is not root ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        checks(sandbox, &text);
    });
}

#[test]
fn files_of_uwsgis_in_other_formats_become_ini_files_with_what_a_check_says() {
    sandboxed(|sandbox| {
        let xml = "<uwsgi>\n<uid>user001</uid>\n<http-socket>:80</http-socket>\n<master/>\n\
                   <proceses>4</proceses>\n</uwsgi>\n";
        let json =
            "{'uwsgi': {'uid': 'user001', 'http-socket': ':80', 'master': true, 'env': ['A=b', 'C=%n']}}";
        let json = &json.replace('\'', "\"");
        let [xml, json] = [sandbox.file("x.xml", xml), sandbox.file("j.json", json)];
        let text = import(sandbox, &["uwsgi", xml.to_str().unwrap()]);
        let expected = "uid = user001\nhttp-socket = :80\nmaster = true\n\
                        ; warning: unknown option 'proceses' (did you mean 'processes'?)\nproceses = 4\n";
        assert!(text.ends_with(expected), "{text}");
        let text = import(sandbox, &["uwsgi", json.to_str().unwrap()]);
        let expected =
            ["[uwsgi]", "uid = user001", "http-socket = :80", "master = true", "env = A=b", "env = C=%n"];
        assert_eq!(lines(&text), expected);
        // An emperor's own file is checked as that.
        let emperor = sandbox.ini("emperor", "emperor = /v\nmaster = true");
        let text = import(sandbox, &["uwsgi", emperor.to_str().unwrap()]);
        assert!(text.contains("; warning: 'master' has no effect: the emperor does not read it\n"), "{text}");
    });
}

#[test]
fn what_a_supervisor_has_beside_its_programs_is_taken_along() {
    sandboxed(|sandbox| {
        let text = "[supervisord]\nenvironment=A=\"x,y\",B=%(ENV_HOME)s\n[program:web]\ncommand=x\n\
                    directory=~web\nenvironment=NAME=%(host_node_name)s\n";
        let file = sandbox.file("supervisord.conf", text);
        let printed = import(sandbox, &["supervisord", file.to_str().unwrap()]);
        for line in [
            "env = A=x,y",
            "env = B=$(HOME)",
            "env = NAME=%h",
            "; directory=~web: the home of a user has to be written out",
        ] {
            assert!(printed.lines().any(|one| one == line), "{line}\n{printed}");
        }
        // A template with what `systemctl edit` added to it.
        let unit = "[Service]\nType=oneshot\nUser=user001\nEnvironmentFile=-/none/%i\nExecStart=first\n\
                    ExecStart=second %i on %H at $$5\nLimitNPROC=infinity\nTimeoutSec=0\n\
                    RuntimeDirectory=app\nMemoryMax=50%\nTasksMax=infinity\nCPUQuota=20%\n";
        let file = sandbox.file("app@.service", unit);
        fs::create_dir(sandbox.path("app@.service.d")).unwrap();
        sandbox.file("app@.service.d/more.conf", "[Service]\nLimitNPROC=20:30\n");
        let printed = import(sandbox, &["systemd", file.to_str().unwrap()]);
        for line in [
            "; with /run/scratch/app@.service.d/more.conf",
            "; for-readline = /none/%n",
            "exec-pre-app = first",
            "command = second %n on %h at '$5'",
            "hook-as-root = chown:/run/app user001",
            "; MemoryMax=50%%: memory-max takes a number",
            "; TasksMax=infinity: no limit is what it has without a key",
            "; CPUQuota=20%%: it takes 'emperor-cgroup = DIR' in the emperor's file",
            "cpu-max = 20%",
            "limit-nproc = 30",
            "stop-timeout = 1h",
        ] {
            assert!(printed.lines().any(|one| one == line), "{line}\n{printed}");
        }
        checks(sandbox, &printed);
    });
}

/// The lines that are printed for a unit, a program or a uWSGI file, all of which a check passes.
fn imported(sandbox: &Sandbox, kind: &str, name: &str, text: &str) -> String {
    let file = sandbox.file(name, text);
    let printed = import(sandbox, &[kind, file.to_str().unwrap()]);
    checks(sandbox, &printed);
    printed
}

#[test]
fn commands_are_split_quoted_and_expanded_as_systemd_does_it() {
    sandboxed(|sandbox| {
        let unit = "[Service]\nType=oneshot\nDynamicUser=yes\nStateDirectory=a\nStateDirectoryMode=0700\n\
                    Environment=\"A=x y\" B='1 \"2\"' C=t\\tu\n\
                    ExecStart=/bin/first ; /bin/second -x \\; ${A}\n\
                    ExecStart=@/bin/app name $A '${A}' \"it's\" a\\x20b $$5 $HOME 1;2 ${STATE_DIRECTORY}\n\
                    ExecStartPre=/bin/sh -c 'until $A; do sleep 1; done'\nExecStopPost=-/bin/rm ${A} $HOME\n\
                    ExecStop=/bin/kill -s INT $MAINPID\nStandardError=inherit\nWorkingDirectory=-/srv\n\
                    CapabilityBoundingSet=\nMemoryHigh=1G\nUnsetEnvironment=D E=f\nLimitCORE=0\nUser=\n\
                    Environment=\nEnvironment=A=z\nPrivateDevices=no\nUMask=0027\n";
        let printed = imported(sandbox, "systemd", "app.service", unit);
        assert_eq!(
            lines(&printed),
            [
                "[uwsgi]",
                "uid = nobody",
                "hook-as-root = mkdir:/var/lib/a",
                "hook-as-root = chmod:/var/lib/a 0700",
                "hook-as-root = chown:/var/lib/a nobody",
                "exec-pre-app = /bin/first",
                "exec-pre-app = /bin/second -x ';' z",
                "command = /bin/app z z \"it's\" 'a b' '$5' $HOME 1;2 /var/lib/a",
                "exec-pre-app = /bin/sh -c 'until $A; do sleep 1; done'",
                "hook-as-user-atexit = safeexec:/bin/rm z $HOME",
                "stop-signal = INT",
                "chdir = /srv",
                "cap-drop = all",
                "cgroup-opt = memory.high=1G",
                "unenv = D",
                "unenv = E",
                "env = A=z",
                "umask = 0027",
            ],
            "{printed}"
        );
        for line in [
            "; Environment=\"A=x y\" B='1 \"2\"' C=t\\tu: a later line takes it back",
            "; ExecStart: $HOME: the value of the variable has to be written out",
            "; LimitCORE=0: a program in front of the command has the same effect: prlimit --core=...",
        ] {
            assert!(printed.lines().any(|one| one == line), "{line}\n{printed}");
        }
        // Without an app it is none.
        let socket = sandbox.file("lone.socket", "[Socket]\nListenStream=1\n");
        let (is_done, _, error) = try_to_import(sandbox, &["systemd", socket.to_str().unwrap()]);
        assert!(!is_done && error.contains("import: lone: no service with ExecStart, so it is no vassal"));
    });
}

#[test]
fn a_byte_order_mark_and_a_mistake_in_a_value_keep_nothing_from_being_imported() {
    sandboxed(|sandbox| {
        let program = "[program:a]\r\ncommand=x %(nope)s %(ENV_HOME)s 100%%(y)s\r\nuser=user001\r\n";
        let unit = "[Service]\nExecStart=x\nUser=user001\nTimeoutStopSec=5 fortnights\n";
        let json = "{\"uwsgi\": {\"uid\": 1001, \"socket\": \":80\"}}";
        for (kind, name, text, expected) in [
            ("supervisord", "a.conf", program, "; %%(nope)s: what it stands for has to be written out"),
            ("systemd", "a.service", unit, "stop-timeout = 5 fortnights"),
            ("uwsgi", "a.json", json, "socket = :80"),
        ] {
            let file = sandbox.file(name, &format!("\u{feff}{text}"));
            let printed = import(sandbox, &[kind, file.to_str().unwrap()]);
            assert!(printed.lines().any(|line| line == expected), "{printed}");
            assert_eq!(
                printed.matches("%%(").count(),
                if kind == "supervisord" { 3 } else { 0 },
                "{printed}"
            );
        }
    });
}

#[test]
fn numbers_of_processes_stay_what_they_were() {
    sandboxed(|sandbox| {
        let text = "[supervisord]\nuser=user001\n[program:web]\n\
                    command=x :80%(process_num)02d --n=%(process_num)d\nnumprocs=3\nnumprocs_start=1\n\
                    autostart=true\nautorestart=true\numask=0o22\nenvironment=\n\
                    stdout_logfile=/var/log/x-%(process_num)02d\n";
        let printed = imported(sandbox, "supervisord", "supervisord.conf", text);
        let expected = [
            "[uwsgi]",
            "uid = user001",
            "command = x :%(replica + 8000) --n=%(replica)",
            "replicas = 3",
            "umask = 22",
            "standard-output = file:/var/log/x-%(replica)",
        ];
        assert_eq!(lines(&printed), expected, "{printed}");
        assert!(printed.contains("%%(replica) has no zeros in front") && !printed.contains("autostart"));
        let php =
            "[fcgi-program:php]\ncommand=x\nuser=user001\nsocket=tcp://localhost:9000\nsocket_backlog=9\n";
        let printed = imported(sandbox, "supervisord", "php.conf", php);
        assert_eq!(lines(&printed)[3..], ["listen = 127.0.0.1:9000", "listen = 9"], "{printed}");
        let file = sandbox.file("bad.conf", "[program:../x]\ncommand=x\n");
        let (is_done, _, error) = try_to_import(sandbox, &["supervisord", file.to_str().unwrap()]);
        assert!(!is_done && error.ends_with("'../x' is no name of a program\n"), "{error}");
    });
}

#[test]
fn texts_in_yaml_json_and_xml_stay_as_they_are_written() {
    sandboxed(|sandbox| {
        for (name, text) in [
            (
                "a.yml",
                "uwsgi:\n  uid: 1001\n  umask: 022\n  http-socket: :80\n  vacuum: yes\n  env: A=1\n  \
                 env: B=2\n  master: true\n  x:\n",
            ),
            (
                "a.json",
                "{\"uwsgi\": {\"uid\": 1001, \"umask\": \"022\", \"http-socket\": \":80\", \
                 \"vacuum\": \"yes\", \
                 \"env\": \"A=1\", \"env\": \"B=2\", \"master\": true, \"x\": {\"y\": 1}}}",
            ),
            (
                "a.xml",
                "<uwsgi><uid>1001</uid><umask>022</umask><http-socket>:80</http-socket><vacuum>yes</vacuum>\
                 <env>A=1</env><env>B=2</env><master/><app mountpoint='/'><script>x</script></app></uwsgi>",
            ),
        ] {
            let printed = imported(sandbox, "uwsgi", name, text);
            let expected = [
                "uid = 1001",
                "umask = 022",
                "http-socket = :80",
                "vacuum = yes",
                "env = A=1",
                "env = B=2",
                "master = true",
            ];
            assert_eq!(lines(&printed)[1..], expected, "{printed}");
            let lacks =
                ["\n; x: uWSGI takes no list", "\n; x: uWSGI passes over", "\n; <app>: an app in an "];
            assert!(lacks.iter().any(|line| printed.contains(line)), "{printed}");
        }
        let two =
            "<a><uwsgi><uid>0</uid><socket>:1</socket></uwsgi><uwsgi id='b'><socket>:2</socket></uwsgi></a>";
        let printed = imported(sandbox, "uwsgi", "b.xml", two);
        assert_eq!(lines(&printed), ["[uwsgi]", "uid = 0", "socket = :1", "[b]", "socket = :2"]);
    });
}

#[test]
fn a_file_of_variables_is_read_at_once_if_it_has_more_than_those() {
    sandboxed(|sandbox| {
        for (text, expected) in [
            (
                "# of Debian's\n\nOPTS=\"--a --b\"\nNAME=it's\n",
                &["env = OPTS=--a --b", "env = NAME=it's"][..],
            ),
            ("OPTS=--a --b\n", &["for-readline = /run/scratch/variables", "env = %(_)", "endfor ="]),
        ] {
            let file = sandbox.file("variables", text).display().to_string();
            let unit = format!("[Service]\nUser=user001\nEnvironmentFile=-{file}\nExecStart=x $OPTS\n");
            let unit = sandbox.file("app.service", &unit);
            let printed = import(sandbox, &["systemd", unit.to_str().unwrap()]);
            let all = [&["[uwsgi]", "uid = user001"], expected, &["command = x --a --b"]].concat();
            assert_eq!(lines(&printed), all);
            checks(sandbox, &printed);
        }
    });
}

#[test]
fn what_cannot_be_imported_is_told_of_with_its_file() {
    sandboxed(|sandbox| {
        let into = sandbox.path("");
        fs::write(sandbox.path("latin.ini"), b"[uwsgi]\nuid = caf\xe9\n").unwrap();
        let words = ["uwsgi", sandbox.path("latin.ini").to_str().unwrap()].map(str::to_owned);
        let (is_done, _, error) = try_to_import(sandbox, &words.each_ref().map(String::as_str));
        assert!(!is_done && error.ends_with("latin.ini: it is not UTF-8: save it as that\n"), "{error}");
        for (name, text, why) in [
            ("a.json", "{", "a.json: Expecting property name"),
            ("a.yml", "a: [", "a.yml: "),
            ("a.xml", "<a>", "a.xml: no element found"),
            ("there.ini", "[uwsgi]\nuid = user001\ncommand = x\n", "there.ini: File exists\n"),
        ] {
            let file = sandbox.file(name, text);
            let words = ["uwsgi", file.to_str().unwrap(), "--into", into.to_str().unwrap()];
            let (is_done, _, error) = try_to_import(sandbox, &words);
            let begin = format!("import: {}", into.display());
            assert!(!is_done && error.starts_with(&begin) && error.contains(why), "{error}");
        }
    });
}
