//! The alerts, the dashboard and the page about them, with Prometheus's own programs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::walk::document;
use crate::common::{sandboxed, until};

/// A file of docs/monitoring.
fn path(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring").join(name).display().to_string()
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() {
    let output = Command::new("promtool").args(["test", "rules", &path("rules-test.yml")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (rules, tests, page) = (
        document("docs/monitoring/rules.yml"),
        document("docs/monitoring/rules-test.yml"),
        document("docs/monitoring/README.md"),
    );
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 10);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "no test has {alert} fire");
        assert!(tests.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert} may fire always");
        assert!(page.contains(&format!("| `{alert}` | ")), "the page lacks {alert}");
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let reference = document("docs/reference.md");
    for file in ["rules.yml", "dashboard.json"] {
        let text = document(&format!("docs/monitoring/{file}"));
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: Vec<_> =
            words.filter(|word| word.starts_with("vassal_") || word.starts_with("emperor_")).collect();
        assert!(metrics.len() > 8, "{metrics:?}");
        for metric in metrics {
            let name = metric.strip_suffix("_bucket").unwrap_or(metric);
            assert!(reference.contains(&format!("| `{name}` | ")), "{file}: there is no metric {name}");
        }
    }
}

#[test]
fn prometheus_takes_what_the_emperor_says() {
    sandboxed(|sandbox| {
        sandbox.vassal("shop", "command = sleep 1000");
        let emperor = sandbox.emperor(&["--metrics", "127.0.0.1:9191"]);
        emperor.wait_running(1, "shop");
        let config = sandbox.path("prometheus.yml");
        let text = "{global: {scrape_interval: 1s}, scrape_configs: [{job_name: emperor, static_configs: \
                    [{targets: ['127.0.0.1:9191']}]}]}";
        fs::write(&config, text).unwrap();
        let mut prometheus = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", sandbox.path("tsdb").display()))
            .arg("--web.listen-address=127.0.0.1:9090")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ask = |query: &str| {
            let url = "http://127.0.0.1:9090/api/v1/query";
            let query = format!("query={query}");
            let output = Command::new("curl").args(["-s", "-G", url, "--data-urlencode", &query]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        until("Prometheus has the vassal", || {
            let said = ask("vassal_up");
            said.contains(r#""vassal":"shop""#) && said.contains(r#","1"]"#)
        });
        // All of what it was told is metrics to it, a histogram among them.
        let kinds = Command::new("curl").args(["-s", "http://127.0.0.1:9090/api/v1/metadata"]).output();
        let kinds = String::from_utf8(kinds.unwrap().stdout).unwrap();
        let histogram = r#""emperor_recovery_seconds":[{"type":"histogram""#;
        assert!(kinds.contains(histogram) && kinds.contains(r#""vassal_up""#), "{kinds}");
        prometheus.kill().unwrap();
        prometheus.wait().unwrap();
        emperor.stop();
    });
}
