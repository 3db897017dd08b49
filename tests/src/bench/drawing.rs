//! What all charts have: a width, colours, a title, and a file.

/// How wide each is.
pub(super) const WIDTH: f64 = 640.0;
/// The colours of lines and bars, in turn.
pub(super) const COLOURS: [&str; 4] = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700"];

/// A picture, ready to be written beside the document that shows it.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// Its file's name.
    pub file: String,
    /// What it shows.
    pub title: &'static str,
    /// The file's content.
    pub svg: String,
}

impl Drawing {
    /// What began with [`head`] is whole.
    pub(super) fn of(file: &str, title: &'static str, mut svg: String) -> Self {
        svg.push_str("</svg>\n");
        Self {
            file: file.to_owned(),
            title,
            svg,
        }
    }
}

/// The first lines of a picture, with its title.
pub(super) fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"24\" text-anchor=\"middle\" font-size=\"15\">{}</text>\n",
        WIDTH / 2.0,
        escape(title)
    )
}

/// Text as it stands in XML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
