//! Pages of an invoice as PDF 1.4 (ISO 32000): the few objects that lines of text in Helvetica
//! take, which every reader has. Letters are those of Windows-1252 that are Latin-1 too; for any
//! other there is a question mark.

/// A page: a head, lines with amounts to the right, and on the last one the total.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) issuer: Vec<String>,
    pub(super) head: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
    pub(super) total: Option<(String, String)>,
    pub(super) foot: String,
}

/// A line.
pub(super) struct Row {
    pub(super) text: String,
    pub(super) detail: String,
    pub(super) amount: String,
}

/// A4, in points of 1/72 inch.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const LEFT: f32 = 50.0;
const RIGHT: f32 = WIDTH - 50.0;
/// Where the middle column ends.
const DETAIL_RIGHT: f32 = 430.0;
/// Where the issuer's lines begin, beside the head: 8 of them have room.
const ISSUER_LINES: usize = 8;
const ROW_HEIGHT: f32 = 14.0;

#[derive(Clone, Copy)]
enum Face {
    Plain,
    Bold,
}

/// The file.
pub(super) fn write(pages: &[Page]) -> Vec<u8> {
    let mut file = File::default();
    // 1 is the catalogue, 2 the tree of pages, 3 and 4 the faces; then two objects a page.
    let kids: Vec<String> = (0..pages.len())
        .map(|it| format!("{} 0 R", 5 + it * 2))
        .collect();
    file.object(b"<< /Type /Catalog /Pages 2 0 R >>");
    let tree = format!(
        "<< /Type /Pages /Count {} /Kids [{}] >>",
        pages.len(),
        kids.join(" ")
    );
    file.object(tree.as_bytes());
    for name in ["Helvetica", "Helvetica-Bold"] {
        let face = format!(
            "<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>"
        );
        file.object(face.as_bytes());
    }
    for (place, page) in pages.iter().enumerate() {
        let object = format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {} 0 R >>",
            6 + place * 2
        );
        file.object(object.as_bytes());
        let content = content(page);
        let mut stream = format!("<< /Length {} >>\nstream\n", content.len()).into_bytes();
        stream.extend_from_slice(&content);
        stream.extend_from_slice(b"\nendstream");
        file.object(&stream);
    }
    file.end()
}

/// Objects, and where each begins.
struct File {
    bytes: Vec<u8>,
    begins: Vec<usize>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            // Bytes above 127 in a comment say that the file is no text.
            bytes: b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec(),
            begins: Vec::new(),
        }
    }
}

impl File {
    fn object(&mut self, content: &[u8]) {
        self.begins.push(self.bytes.len());
        let number = self.begins.len();
        self.bytes
            .extend_from_slice(format!("{number} 0 obj\n").as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.extend_from_slice(b"\nendobj\n");
    }

    fn end(mut self) -> Vec<u8> {
        let table = self.bytes.len();
        let count = self.begins.len() + 1;
        let mut text = format!("xref\n0 {count}\n0000000000 65535 f \n");
        for begin in &self.begins {
            // Each row of the table has 20 bytes.
            text.push_str(&format!("{begin:010} 00000 n \n"));
        }
        text.push_str(&format!(
            "trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
        ));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes
    }
}

/// What is drawn on a page, from the top.
fn content(page: &Page) -> Vec<u8> {
    let mut canvas = Canvas::default();
    let mut y = HEIGHT - 60.0;
    canvas.text((LEFT, y), &page.title, 16.0, Face::Bold);
    for (place, line) in page.issuer.iter().take(ISSUER_LINES).enumerate() {
        let line = cut(line, 9.0, Face::Plain, 190.0);
        let at = (RIGHT - 190.0, y - place as f32 * 11.0);
        canvas.text(at, &line, 9.0, Face::Plain);
    }
    y -= 26.0;
    for (name, value) in &page.head {
        canvas.text((LEFT, y), name, 9.0, Face::Bold);
        let value = cut(value, 9.0, Face::Plain, RIGHT - 200.0 - LEFT - 50.0);
        canvas.text((LEFT + 50.0, y), &value, 9.0, Face::Plain);
        y -= 13.0;
    }
    y = HEIGHT - 158.0;
    canvas.text((LEFT, y), "Description", 9.0, Face::Bold);
    canvas.text_to(DETAIL_RIGHT, y, "Quantity", 9.0, Face::Bold);
    canvas.text_to(RIGHT, y, "Amount USD", 9.0, Face::Bold);
    canvas.rule(y - 4.0);
    for row in &page.rows {
        y -= ROW_HEIGHT;
        let text = cut(&row.text, 9.0, Face::Plain, DETAIL_RIGHT - 70.0 - LEFT);
        canvas.text((LEFT, y - 2.0), &text, 9.0, Face::Plain);
        canvas.text_to(DETAIL_RIGHT, y - 2.0, &row.detail, 9.0, Face::Plain);
        canvas.text_to(RIGHT, y - 2.0, &row.amount, 9.0, Face::Plain);
    }
    if let Some((name, amount)) = &page.total {
        y -= ROW_HEIGHT;
        canvas.rule(y + 6.0);
        canvas.text((LEFT, y - 8.0), name, 11.0, Face::Bold);
        canvas.text_to(RIGHT, y - 8.0, amount, 11.0, Face::Bold);
    }
    canvas.text((LEFT, 40.0), &page.foot, 7.0, Face::Plain);
    canvas.operators
}

#[derive(Default)]
struct Canvas {
    operators: Vec<u8>,
}

impl Canvas {
    fn text(&mut self, (x, y): (f32, f32), text: &str, size: f32, face: Face) {
        let font = match face {
            Face::Plain => "F1",
            Face::Bold => "F2",
        };
        let begin = format!("BT /{font} {size:.1} Tf {x:.2} {y:.2} Td (");
        self.operators.extend_from_slice(begin.as_bytes());
        for byte in encoded(text) {
            if matches!(byte, b'(' | b')' | b'\\') {
                self.operators.push(b'\\');
            }
            self.operators.push(byte);
        }
        self.operators.extend_from_slice(b") Tj ET\n");
    }

    /// Text that ends at `right`.
    fn text_to(&mut self, right: f32, y: f32, text: &str, size: f32, face: Face) {
        let x = right - width(text, size, face);
        self.text((x, y), text, size, face);
    }

    fn rule(&mut self, y: f32) {
        let line = format!("0.5 w {LEFT:.2} {y:.2} m {RIGHT:.2} {y:.2} l S\n");
        self.operators.extend_from_slice(line.as_bytes());
    }
}

/// Windows-1252, as far as it is Latin-1.
fn encoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.chars().map(|letter| match letter {
        ' '..='~' | '\u{a0}'..='\u{ff}' => u32::from(letter) as u8,
        _ => b'?',
    })
}

/// The text as far as it has room.
fn cut(text: &str, size: f32, face: Face, room: f32) -> String {
    if width(text, size, face) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        if width(&short, size, face) + width("...", size, face) > room {
            short.pop();
            break;
        }
    }
    short + "..."
}

fn width(text: &str, size: f32, face: Face) -> f32 {
    let widths = match face {
        Face::Plain => &PLAIN,
        Face::Bold => &BOLD,
    };
    let thousandths: u32 = encoded(text)
        .map(|byte| {
            let known = usize::from(byte).checked_sub(32);
            let width = known.and_then(|place| widths.get(place));
            u32::from(*width.unwrap_or(&OTHER))
        })
        .sum();
    thousandths as f32 * size / 1_000.0
}

/// What most letters beyond ASCII take.
const OTHER: u16 = 556;

/// Widths of Helvetica from the space to the tilde, in thousandths of its size: Adobe's font
/// metrics of the 14 standard fonts.
const PLAIN: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// Widths of Helvetica-Bold, likewise.
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667,
    611, 778, 722, 278, 556, 722, 611, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556,
    278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page {
            title: "Invoice INV-000001".to_owned(),
            issuer: vec!["Example (Platform) Ltd".to_owned()],
            head: vec![("For".to_owned(), "Müller & Søn".to_owned())],
            rows: vec![Row {
                text: text.to_owned(),
                detail: "7 calls".to_owned(),
                amount: "12.345678".to_owned(),
            }],
            total: Some(("Total USD".to_owned(), "12.35".to_owned())),
            foot: "Page 1 of 1.".to_owned(),
        }
    }

    #[test]
    fn every_object_is_where_the_table_says() {
        let file = write(&[page("a"), page("b")]);
        // A byte each, so that places are places of the file.
        let letter = |byte: &u8| {
            if byte.is_ascii() {
                char::from(*byte)
            } else {
                '?'
            }
        };
        let text: String = file.iter().map(letter).collect();
        let table = text
            .rfind("startxref\n")
            .map(|at| &text[at + 10..])
            .unwrap();
        let table: usize = table.lines().next().unwrap().parse().unwrap();
        let rows: Vec<&str> = text[table..].lines().skip(2).collect();
        for (number, row) in rows.iter().skip(1).take(8).enumerate() {
            let at: usize = row[..10].parse().unwrap();
            let begin = format!("{} 0 obj\n", number + 1);
            assert!(text[at..].starts_with(&begin), "{row}");
            assert_eq!(row.len(), 19, "a row and its end are 20 bytes");
        }
        // What a stream says of its length is its length.
        for (at, _) in text.match_indices("<< /Length ") {
            let length: String = text[at + 11..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            let begin = text[at..].find("stream\n").unwrap() + at + 7;
            let length: usize = length.parse().unwrap();
            assert!(text[begin + length..].starts_with("\nendstream"));
        }
    }

    #[test]
    fn what_a_line_says_ends_no_text_and_fits_its_column() {
        let file = write(&[page(") Tj ET (\\ 猫")]);
        let text: String = file.iter().map(|byte| char::from(*byte)).collect();
        assert!(text.contains(r"(\) Tj ET \(\\ ?) Tj"), "{text}");
        assert!(text.contains("M\u{fc}ller & S\u{f8}n"));
        let short = cut(&"w".repeat(200), 9.0, Face::Plain, 100.0);
        assert!(short.ends_with("...") && width(&short, 9.0, Face::Plain) <= 100.0);
        // Amounts end where the column does.
        assert!((width("12.35", 10.0, Face::Plain) - 25.02).abs() < 0.001);
    }
}
