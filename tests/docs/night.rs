//! What operating.md has for the night: its commands show every vassal that is not well, and no other. And
//! its whole file.

use std::fs;
use std::process::Command;

use super::blocks::indented;
use super::walk::document;
use crate::common::sandbox::vassal_path;
use crate::common::{Sandbox, eventually, process, sandboxed, until};
use rustix::process::Signal;

/// The block of a document, four blanks in, that has this in it.
fn command(name: &str, part: &str) -> String {
    let blocks = indented(&document(name));
    let block = blocks.into_iter().find(|block| block.contains(part));
    block.unwrap_or_else(|| panic!("{name} has no block with '{part}'"))
}

/// What a command of bash shows, which must succeed.
fn output(sandbox: &Sandbox, command: &str) -> String {
    let program = sandbox.program("emperor");
    let bin = std::path::Path::new(program.get_program()).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", command]).env("PATH", path).output().unwrap();
    // 3 tells that a vassal has a problem.
    let is_told = matches!(output.status.code(), Some(0 | 3));
    assert!(is_told, "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The vassals that a command of bash shows.
fn shown(sandbox: &Sandbox, command: &str) -> Vec<String> {
    let text = output(sandbox, command);
    let rows = text.lines().take_while(|line| !line.is_empty());
    let names = rows.filter_map(|line| match line.strip_prefix("{\"name\":\"") {
        Some(json) => json.split('"').next(),
        None => line.split_whitespace().next(),
    });
    names.filter(|name| *name != "NAME").map(str::to_owned).collect()
}

#[test]
fn the_whole_file_of_an_emperor_is_right_and_is_checked_as_the_page_says() {
    sandboxed(|sandbox| {
        let file = command("docs/operating.md", "emperor-use-clone = fs,pid,ipc");
        fs::write("/etc/uwsgi/emperor.ini", file).unwrap();
        for name in ["defaults", "policy"] {
            fs::write(format!("/etc/uwsgi/{name}.ini"), "[uwsgi]\nclean-env = true\n").unwrap();
        }
        sandbox.vassal("healthy", "uid = nobody\ncommand = sleep 1000");
        assert_eq!(output(sandbox, &command("docs/operating.md", "vassals/*.ini")), "");
        sandbox.vassal("healthy", "uid = nobody\ncomand = sleep 1000");
        let text = output(sandbox, &command("docs/operating.md", "vassals/*.ini"));
        assert!(text.contains("did you mean 'command'?"), "{text}");
    });
}

#[test]
fn the_completions_are_where_bash_finds_them_after_the_commands_of_the_page() {
    sandboxed(|sandbox| {
        let repository = env!("CARGO_MANIFEST_DIR");
        let install = command("docs/operating.md", "cp docs/completions");
        let look = "for program in emperor vassal-init; do\n\
                    . ~/.local/share/bash-completion/completions/$program\n\
                    complete -p $program\n\
                    done\nls ~/.local/share/man/man1";
        let script = format!("export HOME=/run/home\ncd {repository}\n{install}\n{look}");
        let text = output(sandbox, &script);
        assert!(text.contains("-F _emperor emperor\n"), "{text}");
        assert!(text.contains("-F _vassal_init vassal-init\n"), "{text}");
        assert!(text.ends_with("emperor.1\nvassal-init.1\n"), "{text}");
    });
}

#[test]
fn the_first_commands_of_the_night_show_every_ill_vassal_and_no_healthy_one() {
    sandboxed(|sandbox| {
        for (name, command) in [
            ("healthy", "sleep 1000"),
            ("running-too", "sleep 1000"),
            // Killed again and again: it runs when it is asked.
            ("flaps", "sleep 2222"),
            (
                "fails",
                "sh -c 'printf \"\\033[31mit is red\\n\" >&2; exit 3'\nstandard-error = file:/run/fails.log",
            ),
            ("refused", "sleep 1000"),
            ("held", "sleep 1000"),
        ] {
            sandbox.vassal(name, &format!("uid = nobody\ncommand = {command}"));
        }
        sandbox.vassal("mistaken", "uid = nobody\nchdir = %(");
        // Its reason has the word in it.
        sandbox.vassal(
            "hangs",
            "uid = nobody\nhook-timeout = 500ms\nexec-asap = sleep 50\ncommand = sleep 1000",
        );
        let emperor = sandbox.emperor(&[]);
        for name in ["healthy", "running-too", "refused", "held"] {
            emperor.wait_running(1, name);
        }
        emperor.wait_for("emperor: hangs: setup failed in ");
        let app = || process::all().into_iter().find(|process| process.parent == emperor.pid_of("flaps"));
        emperor.wait_running(1, "flaps");
        for round in 2..5 {
            let app = eventually("the app", app).pid;
            sandbox.until_up(&[]);
            process::signal(app, Signal::KILL);
            emperor.wait_running(round, "flaps");
        }
        fs::write(
            vassal_path("refused"),
            "[uwsgi]\nuid = nobody\nexec-as-rot = true\ncommand = sleep 1000\n",
        )
        .unwrap();
        emperor.wait_for("emperor: refused: reload refused: ");
        let stop = sandbox.program("emperor").args(["stop", "held", "--wait"]).status().unwrap();
        assert!(stop.success());
        let ill = ["fails", "flaps", "hangs", "mistaken", "refused"];
        let night = command("docs/operating.md", "--problems");
        for command in night.lines().chain([command("docs/guide.md", "jq -c").as_str()]) {
            until(command, || shown(sandbox, command) == ill);
            let text = output(sandbox, command);
            for why in ["[31mit is red", "'exec-as-rot'"] {
                assert!(text.contains(why), "{command} has no cause '{why}': {text}");
            }
            assert!(!text.contains('\x1b'), "{command} lets an app write to the terminal: {text:?}");
        }
        emperor.stop();
    });
}
