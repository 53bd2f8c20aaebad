//! `proc-title-template`: what `ps` shows for the server.

use std::path::Path;

use super::Config;

/// The title of a server with this configuration. `program` is the name it was started as.
pub fn title(config: &Config, program: &str, config_file: Option<&Path>) -> String {
    let port = if config.port != 0 { config.port } else { config.tls_port };
    let listen_addr = || match port {
        0 => format!("unixsocket:{}", config.unixsocket.as_deref().unwrap_or_default()),
        _ => format!("{}:{port}", config.bind.first().map_or("*", String::as_str)),
    };
    let value = |variable: &str| {
        Some(match variable {
            "title" => program.to_owned(),
            "listen-addr" => listen_addr(),
            "server-mode" => if config.cluster_enabled { "[cluster]" } else { "" }.to_owned(),
            "config-file" => config_file.map_or_else(|| "-".into(), |path| path.display().to_string()),
            "port" => config.port.to_string(),
            "tls-port" => config.tls_port.to_string(),
            "unixsocket" => config.unixsocket.clone().unwrap_or_default(),
            _ => return None,
        })
    };
    expand(&config.proc_title_template, value).unwrap_or_else(|| program.to_owned())
}

/// True if every variable is known and at least a blank remains when those that may be empty are.
pub(super) fn is_valid(template: &str) -> bool {
    let value = |variable: &str| match variable {
        "title" | "server-mode" | "unixsocket" => Some(String::new()),
        "listen-addr" | "config-file" | "port" | "tls-port" => Some("x".to_owned()),
        _ => None,
    };
    expand(template, value).is_some_and(|title| !title.is_empty())
}

/// Replaces `{variable}` by its value and `{{` by a brace, and trims blanks. `None`: an unknown variable or a brace
/// that is not closed.
fn expand(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('{') {
            out.push('{');
            rest = after;
        } else {
            let (variable, after) = after.split_once('}')?;
            out.push_str(&value(variable)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out.trim_matches(' ').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let mut config = Config { port: 7000, bind: vec!["127.0.0.1".into()], ..Config::default() };
        assert_eq!(title(&config, "redis-server", None), "redis-server 127.0.0.1:7000");
        config.proc_title_template = "TEST {title} {port} {{x} {config-file}".into();
        assert_eq!(title(&config, "s", Some(Path::new("/etc/r.conf"))), "TEST s 7000 {x} /etc/r.conf");
        config.proc_title_template = "{listen-addr}".into();
        config.port = 0;
        config.unixsocket = Some("/tmp/s".into());
        assert_eq!(title(&config, "s", None), "unixsocket:/tmp/s");
    }

    #[test]
    fn validity() {
        for (template, valid) in [
            ("--my--title", true),
            ("{title} {invalid-var}", false),
            ("{title", false),
            ("", false),
            ("{title}", false),
        ] {
            assert_eq!(is_valid(template), valid, "{template}");
        }
    }
}
