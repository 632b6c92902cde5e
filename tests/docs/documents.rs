//! Man pages and completions are made from the table of options, and the reference names each of its rows.
//!
//! `VASSAL_WRITE=1 cargo test --test docs documents::` writes them anew. It costs the programs nothing: only
//! this test has the code.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use vassal::config::cmdline::args::{self, MODES};
use vassal::config::keys::actions;
use vassal::config::keys::emperor::EMPEROR;
use vassal::config::keys::options::Program;
use vassal::config::keys::row::{Group, Reload, Row, Takes};
use vassal::config::keys::vassal::VASSAL_INIT;
use vassal::emperor::core::status::STATES;

/// What MODES are: what each takes, and what it does.
const MODE_DOCS: &[(&str, &str, &str)] = &[
    ("check", "FILE|DIR...", "say what is wrong with files, all of it; exit 0 or 78"),
    ("help", "[NAME]...", "list the options, or say all about options, commands or actions"),
    ("json", "", "with --check, as JSON on standard output"),
    ("show-config", "", "print the options as they are after expansion"),
    ("version", "", "print the version"),
];

const PROGRAMS: [&Program; 2] = [&EMPEROR, &VASSAL_INIT];

/// What stands behind the options in a man page.
fn ending(program: &Program) -> &'static str {
    match program.name {
        "emperor" => {
            ".SH SIGNALS\n\
             TERM, INT and QUIT stop all vassals, HUP reloads them, USR1 logs their state, URG clears the \
             delays, USR2 upgrades.\n\
             .SH EXIT STATUS\n\
             0 when it was stopped, 78 when the configuration is invalid, 1 when it could not do its work.\n\
             .PP\n\
             Of a command: 0 when the order was taken in, with \\-\\-wait when it was carried out;\n\
             1 when not, with the reason on standard error; 78 for a mistake of the command line.\n\
             status \\-\\-problems, and status of a NAME, end with 3 if there is a problem, \
             but for \\-\\-json;\n\
             with \\-\\-is\\-up status ends with 1 if it is not up.\n\
             enter ends with the status of the command that it has run.\n\
             .SH FILES\n\
             .TP\n\
             .I /etc/uwsgi/emperor.ini\n\
             the file that is named on the command line, by habit; /etc/emperor.ini with the Debian package\n\
             .TP\n\
             .I /etc/uwsgi/vassals/NAME.ini\n\
             the vassal NAME, where emperor = /etc/uwsgi/vassals\n\
             .TP\n\
             .I /run/emperor.sock\n\
             where commands go to; $XDG_RUNTIME_DIR/emperor.sock for an ordinary user\n\
             .SH ENVIRONMENT\n\
             .TP\n\
             .B VASSAL_LOG\n\
             json: lines of the log as objects, as \\-\\-log\\-format json\n\
             .TP\n\
             .B NOTIFY_SOCKET, WATCHDOG_USEC\n\
             of systemd: it says when it is ready, and gives heartbeats\n\
             .TP\n\
             .B UWSGI_VASSAL_X\n\
             is UWSGI_X in the vassals\n\
             .SH EXAMPLES\n\
             .EX\n\
             emperor /etc/uwsgi/emperor.ini\n\
             emperor \\-\\-check /etc/uwsgi/emperor.ini\n\
             emperor status\n\
             emperor reload app001 \\-\\-wait || echo \"it goes on as it was\"\n\
             emperor upgrade\n\
             .EE\n\
             .SH SEE ALSO\n\
             .BR vassal-init (1)\n"
        }
        _ => {
            ".SH SIGNALS\n\
             TERM, INT and QUIT stop the app, with SIGKILL after stop\\-timeout; HUP reloads it in the same \
             jail.\n\
             In front of a command they, and all others, go to the command as they are.\n\
             .SH EXIT STATUS\n\
             The app's own; 128+n when signal n killed it.\n\
             69: the app was ready, and then failed its checks. 71: a fatal phase failed.\n\
             75: destroyed because a checked mountpoint was lost. 78: the configuration is invalid.\n\
             126, 127: the app could not be executed, was not found.\n\
             134, or SIGABRT: a mistake in the program, which the last line of its log tells.\n\
             .SH ENVIRONMENT\n\
             .TP\n\
             .B VASSAL_LOG\n\
             json: lines of the log as objects\n\
             .TP\n\
             .B LISTEN_FDS, LISTEN_PID, NOTIFY_SOCKET, UWSGI_EMPEROR_FD\n\
             what the app is told of its sockets, and where it may say that it is ready\n\
             .SH EXAMPLES\n\
             The init of a container; a command with processes and a /tmp of its own; a vassal from a shell; \
             all mistakes of a file:\n\
             .PP\n\
             .EX\n\
             vassal\\-init \\-\\- /srv/app\n\
             vassal\\-init \\-\\-unshare fs,pid \\-\\-mount\\-as\\-root 'tmpfs none /tmp' \\-\\- make\n\
             vassal\\-init \\-\\-unshare fs,pid app.ini\n\
             vassal\\-init \\-\\-check app.ini\n\
             .EE\n\
             .SH SEE ALSO\n\
             .BR emperor (1)\n"
        }
    }
}

// What stands in front of them.
fn description(program: &Program) -> &'static str {
    match program.name {
        "emperor" => {
            ".SH DESCRIPTION\n\
             Each NAME.ini in a directory is a vassal: an app with namespaces of its own. A new file starts \
             one, a touched one\n\
             reloads it, a removed one stops it. What ends is started again.\n\
             .PP\n\
             .EX\n\
             [uwsgi]\n\
             emperor = /etc/uwsgi/vassals\n\
             emperor\\-use\\-clone = fs,pid\n\
             .EE"
        }
        _ => {
            ".SH DESCRIPTION\n\
             In front of a command it is the init of a container. With a file it is process 1 of a vassal: \
             it runs the hooks that\n\
             mount things, drops privileges, starts the app, reaps, and watches mountpoints.\n\
             .PP\n\
             .EX\n\
             vassal\\-init \\-\\- /srv/app\n\
             vassal\\-init \\-\\-unshare fs,pid app.ini\n\
             .EE"
        }
    }
}

fn groups(program: &Program) -> impl Iterator<Item = (Group, Vec<Row>)> {
    let members = |group: Group| {
        let rows = program.options().into_iter();
        rows.filter(|row| row.group == group).collect::<Vec<_>>()
    };
    let groups: Vec<_> = Group::ALL.iter().map(|&group| (group, members(group))).collect();
    groups.into_iter().filter(|(_, rows)| !rows.is_empty())
}

/// For troff: hyphens that are typed, backslashes, and no line that begins with a dot or an apostrophe.
fn troff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text.lines().map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn man(program: &Program) -> String {
    let name = program.name;
    let (summary, usage) = program.usage.split_once("\n\n").unwrap();
    let usage = usage.strip_prefix("Usage:\n").unwrap();
    // How to call it; behind that, what is no option: flags, or commands for one that runs.
    let (usage, others) = usage.split_once("\n\n").unwrap();
    let (title, others) = others.split_once(":\n").unwrap();
    let summary = summary.trim_end_matches('.');
    let summary = summary[..1].to_lowercase() + &summary[1..];
    let mut page = format!(
        ".\\\" Made by tests/docs/documents.rs from src/config/keys/.\n.TH {} 1\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase(),
        troff(name),
        troff(&summary)
    );
    let _ = writeln!(page, ".SH SYNOPSIS\n{}{}", lines_as_they_are(usage), description(program));
    let heading = if program.runs_commands() { "FLAGS" } else { "COMMANDS" };
    let _ = write!(page, ".SH {heading}\n{}:\n.PP\n{}", troff(title), lines_as_they_are(others));
    page += ".SH OPTIONS\nEach is also a key of configuration files, without the dashes and with an equals \
             sign: KEY = VALUE.\n";
    if program.runs_commands() {
        page += "A reload starts the app anew in the same jail, and most keys count for that app; where it \
                 says that a change\n\
                 takes a fresh jail, the emperor starts a fresh instance.\n";
    }
    for (group, rows) in groups(program) {
        let _ = writeln!(page, ".SS {}", group.title());
        for row in rows {
            page += &entry(row.name, value_name(&row), row.doc(), &row.more());
        }
    }
    page += ".SS Without a file to run\n";
    for (name, value, doc) in MODE_DOCS {
        page += &entry(name, value, doc, "");
    }
    page + ending(program)
}

/// A part of the usage. A page of 80 columns has room for 73: the lines begin further left, and so does what
/// stands below a call, if there is no room. A line without an indent is prose below them all.
fn lines_as_they_are(usage: &str) -> String {
    let is_wide = usage.lines().any(|line| line.starts_with("  ") && line.len() > 75);
    let (mut lines, mut below) = (String::new(), String::new());
    for line in usage.lines() {
        let _ = match line.strip_prefix("  ") {
            Some(line) if is_wide && line.starts_with("        ") => {
                writeln!(lines, "      {}", troff(line.trim_start()))
            }
            Some(line) => writeln!(lines, "{}", troff(line)),
            None => writeln!(below, ".PP\n{}", troff(line)),
        };
    }
    format!(".nf\n{lines}.fi\n{below}")
}

fn entry(name: &str, value: &str, doc: &str, more: &str) -> String {
    let value = if value.is_empty() { String::new() } else { format!(" \\fI{}\\fR", troff(value)) };
    let mut entry = format!(".TP\n\\fB\\-\\-{}\\fR{value}\n{}.\n", troff(name), troff(&sentence(name, doc)));
    if !more.is_empty() {
        let _ = writeln!(entry, "{}", troff(more));
    }
    entry
}

/// A value that stands at the beginning stays as it is to be typed.
fn sentence(name: &str, doc: &str) -> String {
    let first = doc.split([':', ',']).next().unwrap();
    let mut values = VALUES.iter().filter(|(key, _)| *key == name).flat_map(|(_, all)| all.split(' '));
    if values.any(|value| value == first) { doc.to_owned() } else { doc[..1].to_uppercase() + &doc[1..] }
}

fn value_name(row: &Row) -> &'static str {
    match row.takes {
        Takes::Flag => "",
        Takes::Value(name) => name,
    }
}

/// What a shell can complete a value with.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Kind {
    Flag,
    Path,
    Directory,
    User,
    Group,
    Signal,
    /// One of these, or a list of them with commas.
    Words(&'static str),
    /// What there is help about.
    Name,
    Other,
}

/// The values of keys that take one of a few words.
const VALUES: &[(&str, &str)] = &[
    ("cap", CAPABILITIES),
    ("cap-drop", CAPABILITIES),
    ("emperor-use-clone", "cgroup fs ipc net pid user uts"),
    ("log-format", "json text"),
    ("map-groups", "auto"),
    ("map-users", "auto"),
    ("mountpoint-lost", "destroy hook: remount"),
    ("proc", "full safe"),
    ("ready-check", "exec: notify tcp://"),
    ("reload-on", "content touch"),
    ("reload-strategy", "recreate rolling"),
    ("standard-error", "file: inherit journal null"),
    ("standard-output", "file: inherit journal null"),
    ("unshare", "cgroup fs ipc net pid user uts"),
];

const CAPABILITIES: &str = "\
    audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override \
    dac_read_search fowner fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin \
    mac_override mknod net_admin net_bind_service net_broadcast net_raw perfmon setfcap setgid \
    setpcap setuid sys_admin sys_boot sys_chroot sys_module sys_nice sys_pacct sys_ptrace sys_rawio \
    sys_resource sys_time sys_tty_config syslog wake_alarm";

/// Prints the names of vassals, from the column of their `status`: replicas obey together.
const AWK_NAMES: &str = "awk 'NF == 0 { exit } NR == 1 { width = index($0, \"STATE\") - 1; next } \
    substr($0, width + 1) ~ /^ignored/ { next } \
    { name = substr($0, 1, width); sub(/ +$/, \"\", name); sub(/\\/[0-9]+$/, \"\", name) } \
    !seen[name]++ { print name }'";

/// The options of the commands for a running emperor.
fn command_options(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "status" => &[
            ("is-up", "whether it is up, as the exit status"),
            ("json", "as JSON"),
            ("problems", "those with a problem only"),
            ("state", "those in these states only"),
            ("watch", "drawn again each second"),
        ],
        "logs" => &[("follow", "go on with what is still to come"), ("lines", "how many of the last ones")],
        "upgrade" => &[("roll", "then replace all instances, some at a time")],
        "enter" => &[("user", "as the app's user")],
        "ps" | "roll" => &[],
        "stop" => &[("now", "with SIGKILL to its app"), ("wait", "wait for the outcome")],
        _ => &[("wait", "wait for the outcome")],
    }
}

/// Commands that take the name of a vassal.
const OF_VASSALS: &[&str] = &["status", "logs", "ps", "enter", "reload", "stop", "start"];

/// What the first line about a command in the usage says of it.
fn command_doc(program: &Program, command: &str) -> &'static str {
    let line = program.usage.lines().find(|line| line.starts_with(&format!("  {} {command}", program.name)));
    let line = line.unwrap_or_else(|| panic!("no usage of {command}"));
    line.rsplit_once("  ").unwrap().1.trim()
}

fn commands(program: &Program) -> impl Iterator<Item = &'static str> {
    program.commands.split(' ').filter(|command| !command.is_empty())
}

/// All that `--help` knows about, besides the options.
fn names(program: &Program) -> String {
    let mut names: Vec<_> = actions::names();
    names.extend(commands(program));
    names.sort_unstable();
    names.join(" ")
}

/// What no shell can complete.
const OTHERS: &[&str] = &[
    "ACTION:ARGS",
    "ADDRESS",
    "CHECK",
    "COMMAND",
    "COUNT",
    "FORMAT",
    "FS SOURCE DIR [FLAGS]",
    "FUNCTION ARG",
    "KEY=VALUE",
    "LIST",
    "MEGABYTES",
    "MILLISECONDS",
    "MODE",
    "NAME",
    "NAME=VALUE",
    "NEW_ROOT PUT_OLD",
    "NUMBER",
    "PERCENT",
    "POLICY",
    "SECONDS",
    "SIGNAL:REPLACEMENT",
    "SIZE",
    "STRATEGY",
    "SUFFIX",
    "TIME",
    "UID[:GID]",
    "USER[:GROUP]",
    "exec:COMMAND",
    "MAP",
];

impl Kind {
    fn of(row: &Row) -> Self {
        if let Some((_, values)) = VALUES.iter().find(|(name, _)| *name == row.name) {
            return Self::Words(values);
        }
        match value_name(row) {
            "" => Self::Flag,
            "DIR" | "DIR [FLAGS]" => Self::Directory,
            name if name.starts_with("FILE") || name.starts_with("PATH") || name == "PROGRAM" => Self::Path,
            "USER" => Self::User,
            "GROUP" => Self::Group,
            "SIGNAL" => Self::Signal,
            name if OTHERS.contains(&name) => Self::Other,
            name => panic!("'{}' takes a {name}: say in Kind::of what a shell completes it with", row.name),
        }
    }
}

/// Every option with what it takes and what it does, modes included.
fn options(program: &Program) -> Vec<(String, Kind, &'static str)> {
    let of_row = |row: Row| program.keys(&row).into_iter().map(move |key| (key, Kind::of(&row), row.doc()));
    let mode = |(name, value, doc): &(&str, &str, &'static str)| {
        let kind = match *value {
            "FILE|DIR..." => Kind::Path,
            "[NAME]..." => Kind::Name,
            _ => Kind::Flag,
        };
        ((*name).to_owned(), kind, *doc)
    };
    let mut options: Vec<_> =
        program.options().into_iter().flat_map(of_row).chain(MODE_DOCS.iter().map(mode)).collect();
    options.sort();
    options
}

/// What follows a command for a running emperor.
const BASH_COMMANDS: &str = r#"
    local at command='' control=() options='' names='' name dashes=''
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            --control)
                [[ ${COMP_WORDS[at + 1]} == '=' ]] && ((at++))
                control=(--control "${COMP_WORDS[++at]}")
                ;;
            --) dashes=$at ;;
            -* | =) ;;
            *) command=${command:-${COMP_WORDS[at]}} ;;
        esac
    done
    case $command in
OF_COMMANDS
        help) before=--help ;;
    esac
    if [[ $command == enter && -n $dashes ]]; then
        # What to run there.
        if ((dashes == COMP_CWORD - 1)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$word")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
        fi
        return
    elif [[ $command == status && $before == --state ]]; then
        mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'STATES' -- "${word##*,}")
        return
    elif [[ -n $options && $before != --control ]]; then
        if [[ $word == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        elif [[ $names == true ]]; then
            # A name with a blank is typed with a backslash or a quote.
            word=${word//\\/}
            word=${word#[\'\"]}
            while read -r name; do
                [[ $name == "$word"* ]] && COMPREPLY+=("$name")
            done < <("${COMP_WORDS[0]}" "${control[@]}" status 2>/dev/null |
                AWK_NAMES)
        fi
        return
    fi

"#;

/// An option, or the first word.
const BASH_END: &str = r#"
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'OPTIONS' -- "$word")
    else
        mapfile -t COMPREPLY < <(
            FIRST
        )
    fi
}

"#;

fn bash(program: &Program) -> String {
    let function = format!("_{}", program.name.replace('-', "_"));
    let all: Vec<_> = options(program).into_iter().map(|(name, ..)| format!("--{name}")).collect();
    let all = all.join(" ");
    let mut kinds: Vec<_> = options(program).into_iter().map(|(_, kind, _)| kind).collect();
    kinds.sort();
    kinds.dedup();
    let mut cases = String::new();
    for kind in kinds.into_iter().filter(|kind| *kind != Kind::Flag) {
        let of = options(program).into_iter().filter(|option| option.1 == kind);
        let of: Vec<_> = of.map(|(name, ..)| format!("--{name}")).collect();
        let call = match kind {
            Kind::Flag | Kind::Other => "true".to_owned(),
            Kind::Path => "compgen -f -- \"$word\"".to_owned(),
            Kind::Directory => "compgen -d -- \"$word\"".to_owned(),
            Kind::User => "compgen -u -- \"$word\"".to_owned(),
            Kind::Group => "compgen -g -- \"$word\"".to_owned(),
            Kind::Signal => "compgen -A signal -- \"$word\"".to_owned(),
            // What is behind the last comma.
            Kind::Words(words) => {
                format!("compgen -P \"${{word%\"${{word##*,}}\"}}\" -W '{words}' -- \"${{word##*,}}\"")
            }
            Kind::Name => format!("compgen -W '{} {all}' -- \"$word\"", names(program)),
        };
        let of = of.join("|");
        let reply = "mapfile -t COMPREPLY";
        let _ = writeln!(
            cases,
            "        {of})\n            {reply} < <({call})\n            return\n            ;;"
        );
    }
    let name = program.name;
    let mut text = format!(
        "# Completions of {name} for bash. Made by tests/docs/documents.rs from src/config/keys/.\n\
         # shellcheck shell=bash\n\n\
         {function}() {{\n    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}\n"
    );
    text += "    # In '--key=value' the equals sign is a word of its own.\n    \
             if [[ $word == '=' ]]; then\n        word=''\n    elif [[ $before == '=' ]]; then\n        \
             before=${COMP_WORDS[COMP_CWORD - 2]}\n    fi\n";
    let commands: Vec<_> = commands(program).collect();
    if !commands.is_empty() {
        let mut of_commands = String::new();
        for command in &commands {
            let options = command_options(command).iter().map(|(option, _)| format!(" --{option}"));
            let _ = writeln!(
                of_commands,
                "        {command}) options='--control{}'{} ;;",
                options.collect::<String>(),
                if OF_VASSALS.contains(command) { " names=true" } else { "" }
            );
        }
        let commands = BASH_COMMANDS.replace("OF_COMMANDS\n", &of_commands);
        text += &commands.replace("STATES", &STATES.join(" ")).replace("AWK_NAMES", AWK_NAMES);
    }
    let mut words = "compgen -f -- \"$word\"".to_owned();
    if !commands.is_empty() {
        words = format!("compgen -W '{} help' -- \"$word\"\n            {words}", commands.join(" "));
    }
    let end = BASH_END.replace("OPTIONS", &all).replace("FIRST", &words);
    let _ = write!(
        text,
        "    case $before in\n{cases}    esac\n{end}complete -o filenames -F {function} {name}\n"
    );
    text
}

/// A text between apostrophes, as zsh's `_arguments` takes it.
fn zsh_doc(doc: &str) -> String {
    doc.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

fn zsh(program: &Program) -> String {
    let mut text =
        format!("#compdef {}\n# Made by tests/docs/documents.rs from src/config/keys/.\n\n", program.name);
    let commands: Vec<_> = commands(program).collect();
    if !commands.is_empty() {
        text += "_emperor_first() {\n    local -a commands=(\n";
        for command in &commands {
            let _ = writeln!(
                text,
                "        '{command}:{}'",
                command_doc(program, command).replace('\'', "'\\''")
            );
        }
        text += "        'help:say all about options, commands or actions'\n    )\n    \
                 _alternative 'files:file:_files' 'commands:command:{_describe command commands}'\n}\n\n\
                 _emperor_vassals() {\n    local -a names\n    \
                 names=(${(f)\"$(emperor ${opt_args[--control]:+--control} $opt_args[--control] status \
                 2>/dev/null |\n        ";
        text += AWK_NAMES;
        text += ")\"})\n    compadd -a names\n}\n\n";
        let _ = writeln!(text, "case ${{words[(r)({}|help)]}} in", commands.join("|"));
        for command in &commands {
            let _ = writeln!(text, "    {command})\n        _arguments \\");
            text += "            '--control=[command socket]:file:_files' \\\n";
            for (option, doc) in command_options(command) {
                let value = if *option == "state" {
                    format!(":state:_sequence compadd - {}", STATES.join(" "))
                } else {
                    String::new()
                };
                let equals = if value.is_empty() { "" } else { "=" };
                let _ = writeln!(text, "            '--{option}{equals}[{}]{value}' \\", zsh_doc(doc));
            }
            let names = if OF_VASSALS.contains(command) { "vassal:_emperor_vassals" } else { " : " };
            let _ = writeln!(text, "            '1: : ' '*:{names}'\n        return\n        ;;");
        }
        let _ = writeln!(text, "    help) _arguments '*:name:({})' && return ;;\nesac\n", names(program));
    }
    text += "_arguments \\\n";
    for (name, kind, doc) in options(program) {
        let action = match kind {
            Kind::Flag => String::new(),
            Kind::Path => ":file:_files".to_owned(),
            Kind::Directory => ":directory:_files -/".to_owned(),
            Kind::User => ":user:_users".to_owned(),
            Kind::Group => ":group:_groups".to_owned(),
            Kind::Signal => ":signal:_signals -s".to_owned(),
            Kind::Words(words) => {
                format!(":value:_sequence compadd - {}", words.replace(':', "\\:"))
            }
            Kind::Name => format!("::name:({})", names(program)),
            Kind::Other => ":value: ".to_owned(),
        };
        let equals = if matches!(kind, Kind::Flag | Kind::Name) { "" } else { "=" };
        let _ = writeln!(text, "    '*--{name}{equals}[{}]{action}' \\", zsh_doc(doc));
    }
    text + if commands.is_empty() { "    '*:file:_files'\n" } else { "    '*:file:_emperor_first'\n" }
}

fn fish(program: &Program) -> String {
    let name = program.name;
    let mut text = format!(
        "# Completions of {name} for fish. Made by tests/docs/documents.rs from src/config/keys/.\n\n"
    );
    let escaped = |doc: &str| doc.replace('\\', "\\\\").replace('\'', "\\'");
    for command in commands(program) {
        let seen = format!("__fish_seen_subcommand_from {command}");
        let _ = writeln!(
            text,
            "complete -c {name} -n 'not __fish_seen_subcommand_from {} help' -a {command} -d '{}'",
            program.commands,
            escaped(command_doc(program, command))
        );
        for (option, doc) in command_options(command) {
            let value = match *option {
                "state" => format!(" -x -a '(__fish_append , {})'", STATES.join(" ")),
                _ => String::new(),
            };
            let doc = escaped(doc);
            let _ = writeln!(text, "complete -c {name} -n '{seen}' -l {option}{value} -d '{doc}'");
        }
        if OF_VASSALS.contains(&command) {
            let names = escaped(&format!("({name} status 2>/dev/null | {AWK_NAMES})"));
            let _ = writeln!(text, "complete -c {name} -n '{seen}' -f -a '{names}'");
        }
    }
    if commands(program).count() > 0 {
        let _ = writeln!(
            text,
            "complete -c {name} -n 'not __fish_seen_subcommand_from {0} help' -a help -d 'say all'\n\
             complete -c {name} -n '__fish_seen_subcommand_from help' -f -a '{1}'",
            program.commands,
            names(program)
        );
    }
    for (option, kind, doc) in options(program) {
        let value = match kind {
            Kind::Flag => String::new(),
            Kind::Path => " -r -F".to_owned(),
            Kind::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
            Kind::User => " -x -a '(__fish_complete_users)'".to_owned(),
            Kind::Group => " -x -a '(__fish_complete_groups)'".to_owned(),
            Kind::Signal => " -x -a 'TERM INT QUIT HUP KILL USR1 USR2'".to_owned(),
            Kind::Words(words) => format!(" -x -a '(__fish_append , {words})'"),
            Kind::Name => format!(" -f -a '{}'", names(program)),
            Kind::Other => " -x".to_owned(),
        };
        let _ = writeln!(text, "complete -c {name} -l {option}{value} -d '{}'", escaped(doc));
    }
    text
}

fn documents() -> Vec<(String, String)> {
    let of = |program: &Program| {
        let name = program.name;
        [
            (format!("man/{name}.1"), man(program)),
            (format!("docs/completions/{name}.bash"), bash(program)),
            (format!("docs/completions/_{name}"), zsh(program)),
            (format!("docs/completions/{name}.fish"), fish(program)),
        ]
    };
    PROGRAMS.into_iter().flat_map(of).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn man_pages_and_completions_are_those_of_the_table() {
    let write = std::env::var_os("VASSAL_WRITE").is_some();
    for (name, text) in documents() {
        let path = root().join(&name);
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{name} is out of date: run VASSAL_WRITE=1 cargo test --test docs documents::"
        );
    }
}

#[test]
fn bash_completes_commands_vassals_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let stub = directory.path().join("emperor");
    let table = "NAME    STATE\\napp1    running\\nb/app2  failed\\nc/1     running\\nc/2     running\\n\
                 my app  running\\n\\n5 instances\\n";
    let status = format!("#!/bin/sh\n[ \"$*\" = '--control /c status' ] && printf '{table}'\n");
    fs::write(&stub, status).unwrap();
    fs::set_permissions(&stub, PermissionsExt::from_mode(0o755)).unwrap();
    let complete = |words: &[&str]| {
        let name = words[0];
        let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "COMP_WORDS=({}); COMP_CWORD={}; _{}; IFS='|'; printf %s \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len() - 1,
            name.replace('-', "_")
        );
        let program = *PROGRAMS.iter().find(|program| program.name == name).unwrap();
        let script = bash(program) + &script;
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(root())
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for (words, expected) in [
        (&["emperor", "sta"][..], "status|start"),
        (&["emperor", "--control", "/c", "reload", ""], "app1|b/app2|c|my app"),
        (&["emperor", "--control", "/c", "stop", "my"], "my app"),
        (&["emperor", "--control", "/c", "stop", "my\\ a"], "my app"),
        (&["emperor", "--control", "/c", "stop", "\"my a"], "my app"),
        (&["emperor", "reload", "--control", "/c", "b"], "b/app2"),
        (&["emperor", "status", "--state", "=", "ru"], "running"),
        (&["emperor", "status", "--state", "idle,st"], "idle,starting|idle,stopping|idle,stopped"),
        (&["emperor", "enter", "shop", "--", "mapfil"], "mapfile"),
        (&["emperor", "--cap", "kill,net_r"], "kill,net_raw"),
        (&["emperor", "--control", "=", "/c", "status", "b"], "b/app2"),
        (&["emperor", "stop", "--control", "/c", "--w"], "--wait"),
        (&["emperor", "stop", "a", "--"], "--control|--now|--wait"),
        (&["emperor", "status", "--"], "--control|--is-up|--json|--problems|--state|--watch"),
        (&["emperor", "upgrade", "--"], "--control|--roll"),
        (&["emperor", "roll", ""], ""),
        (&["emperor", "--emperor-use-clone", "p"], "pid"),
        (&["emperor", "--emperor-use-clone", "=", "fs,u"], "fs,user|fs,uts"),
        (&["emperor", "--log-format", "="], "json|text"),
        (&["emperor", "help", "relo"], "reload"),
        (&["emperor", "--help", "--emperor-fr"], "--emperor-freq"),
        (&["emperor", "--emperor-fr"], "--emperor-freq"),
        (&["vassal-init", "--mountpoint-lost", ""], "destroy|hook:|remount"),
        (&["vassal-init", "--help", "unl"], "unlink"),
    ] {
        assert_eq!(complete(words), expected, "{words:?}");
    }
}

/// Fails where a document has other names than there are, in order; and says which.
fn same(document: &str, documented: &[String], known: &[String]) {
    let without = |some: &[String], others: &[String]| {
        some.iter().filter(|name| !others.contains(name)).cloned().collect::<Vec<_>>().join(", ")
    };
    let (missing, unknown) = (without(known, documented), without(documented, known));
    assert!(
        documented == known,
        "{document}: missing: {missing}; unknown: {unknown}; or out of order, or twice"
    );
}

fn all(names: impl Iterator<Item = &'static str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_option_once_and_no_other() {
    let reference = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let mut in_keys = false;
    let mut first_cells = Vec::new();
    for line in reference.lines() {
        // A table goes on for as long as there are rows.
        let is_first = line.starts_with("| Key |") || line.starts_with("| Option |");
        in_keys = is_first || (in_keys && line.starts_with('|'));
        first_cells.extend(line.split('|').nth(1).filter(|_| in_keys));
    }
    let mut documented: Vec<_> = first_cells
        .into_iter()
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        // Flags are no rows.
        .filter(|name| !name.starts_with('-') || name.starts_with("--"))
        .map(|name| name.trim_start_matches("--").to_owned())
        .collect();
    let mut known: Vec<_> =
        PROGRAMS.iter().flat_map(|program| program.options()).map(|row| row.name.to_owned()).collect();
    documented.sort();
    known.sort();
    known.dedup();
    same("the tables of docs/reference.md", &documented, &known);
}

/// The names between backticks in the paragraph of a text that begins like this.
fn named(text: &str, beginning: &str) -> Vec<String> {
    let (_, rest) = text.split_once(beginning).unwrap_or_else(|| panic!("no paragraph '{beginning}'"));
    let sentence = rest.split(".\n").next().unwrap().split(". ").next().unwrap();
    sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn behaviour_tells_what_a_reload_does_with_each_key() {
    let behaviour = fs::read_to_string(root().join("docs/behaviour.md")).unwrap();
    let rows = |is_it: fn(Reload) -> bool| {
        let rows = VASSAL_INIT.rows().into_iter().filter(|row| row.reload.is_some_and(is_it));
        let mut names: Vec<_> = rows.map(|row| row.name.to_owned()).collect();
        names.sort();
        names
    };
    for (beginning, expected) in [
        ("\nThese keys shape the jail:", rows(|reload| matches!(reload, Reload::FreshJail(_)))),
        ("\nThese count as soon as the vassal is reloaded,", rows(|reload| matches!(reload, Reload::Live))),
    ] {
        same(&format!("docs/behaviour.md,{beginning}"), &named(&behaviour, beginning), &expected);
    }
}

#[test]
fn the_reference_has_every_action_and_function() {
    let reference = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let (_, table) = reference.split_once("| Action | Arguments | |\n").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').collect::<Vec<_>>())
        .collect();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut documented: Vec<_> = rows.iter().flat_map(|row| names(row[1])).collect();
    documented.sort();
    same("the table of actions of docs/reference.md", &documented, &all(actions::names().into_iter()));
    let of_call = rows.iter().filter(|row| row[1].contains("`call"));
    let mut called: Vec<_> = of_call.flat_map(|row| names(row[2]).into_iter().chain(names(row[3]))).collect();
    called.sort();
    same("the functions in docs/reference.md", &called, &all(actions::functions().into_iter()));
}

#[test]
fn the_modes_are_those_of_the_command_line() {
    let names: Vec<_> = MODE_DOCS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, MODES);
    for program in PROGRAMS {
        for name in MODES {
            let words = ["--check".into(), format!("--{name}").into(), "x.ini".into()];
            let parsed = args::parse(program, &words[usize::from(*name != "json")..]);
            let known = !matches!(&parsed, Err(report) if report.first().contains(": unknown option '--"));
            // 'x.ini' is no option that there could be help on.
            assert!(known || *name == "help", "{name}: {parsed:?}");
        }
    }
}

#[test]
fn the_changelog_has_this_version_on_top() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let mut headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(headings.next(), Some("[Unreleased]"));
    let newest = headings.next().unwrap_or_default();
    assert!(newest.starts_with(concat!("[", env!("CARGO_PKG_VERSION"), "] - ")), "{newest}");
}
