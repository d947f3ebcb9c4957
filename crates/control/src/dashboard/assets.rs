//! Scripts and styles: embedded, and served under names that change with what is in them.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};

/// A file that pages load.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const STYLE: Asset = Asset {
    name: "dashboard.css",
    kind: "text/css; charset=utf-8",
    bytes: include_bytes!("assets/dashboard.css"),
};
const SCRIPT: Asset = Asset {
    name: "dashboard.js",
    kind: "text/javascript; charset=utf-8",
    bytes: include_bytes!("assets/dashboard.js"),
};
const HTMX: Asset = Asset {
    name: "htmx.min.js",
    kind: "text/javascript; charset=utf-8",
    bytes: include_bytes!("assets/htmx.min.js"),
};
const UPLOT: Asset = Asset {
    name: "uPlot.iife.min.js",
    kind: "text/javascript; charset=utf-8",
    bytes: include_bytes!("assets/uPlot.iife.min.js"),
};
const UPLOT_STYLE: Asset = Asset {
    name: "uPlot.min.css",
    kind: "text/css; charset=utf-8",
    bytes: include_bytes!("assets/uPlot.min.css"),
};
const ICON: Asset = Asset {
    name: "icon.svg",
    kind: "image/svg+xml",
    bytes: include_bytes!("assets/icon.svg"),
};
const ALL: [Asset; 6] = [STYLE, SCRIPT, HTMX, UPLOT, UPLOT_STYLE, ICON];

/// The addresses that pages name.
pub(super) struct Addresses {
    pub(super) styles: [String; 2],
    pub(super) scripts: [String; 3],
    pub(super) icon: String,
}

/// Their names have a hash of what is in them: a browser keeps them until they change.
pub(super) static ADDRESSES: LazyLock<Addresses> = LazyLock::new(|| Addresses {
    styles: [address(&STYLE), address(&UPLOT_STYLE)],
    scripts: [address(&HTMX), address(&UPLOT), address(&SCRIPT)],
    icon: address(&ICON),
});

fn address(asset: &Asset) -> String {
    format!("/dashboard/assets/{}", hashed_name(asset))
}

fn hashed_name(asset: &Asset) -> String {
    use std::fmt::Write as _;
    let digest = digest(&SHA256, asset.bytes);
    let mut name = String::new();
    // 48 bits tell the versions of one file apart.
    for byte in &digest.as_ref()[..6] {
        write!(name, "{byte:02x}").expect("writing to memory does not fail");
    }
    name.push('-');
    name.push_str(asset.name);
    name
}

/// The file of this name.
pub(super) fn serve(name: &str) -> Response {
    let found = ALL.iter().find(|asset| hashed_name(asset) == name);
    let Some(asset) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    let kind = HeaderValue::from_static(asset.kind);
    (
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, forever)],
        asset.bytes,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_name_is_served_and_nothing_else() {
        let addresses = &*ADDRESSES;
        let named = addresses.styles.iter().chain(&addresses.scripts);
        for address in named.chain([&addresses.icon]) {
            let name = address.strip_prefix("/dashboard/assets/").unwrap();
            assert_eq!(serve(name).status(), 200, "{name}");
        }
        for name in [
            "dashboard.css",
            "000000000000-dashboard.css",
            "../mod.rs",
            "",
        ] {
            assert_eq!(serve(name).status(), 404, "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_is_what_its_note_says() {
        let note = include_str!("assets/README.md");
        for asset in [HTMX, UPLOT, UPLOT_STYLE] {
            let digest = digest(&SHA256, asset.bytes);
            let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            assert!(note.contains(&hex), "{}: {hex}", asset.name);
        }
    }
}
