//! Charts as inline SVG. Drawn at phone width, so that text stays readable where nothing is wider.

use plotters::chart::MeshStyle;
use plotters::prelude::*;
use sanderling_types::{Code, Error, Result};

use super::html::Text;

/// The backend knows whole coordinates only: drawn at ten times the size, intervals are right to a
/// tenth of a pixel.
const PIXEL: u32 = 10;
const WIDTH: u32 = 360 * PIXEL;
const ROW_HEIGHT: u32 = 26 * PIXEL;
const AXIS_HEIGHT: u32 = 26 * PIXEL;
const LABEL_WIDTH: u32 = 158 * PIXEL;
const LINE_HEIGHT: u32 = 190 * PIXEL;
const DIAGONAL_HEIGHT: u32 = 300 * PIXEL;
/// 12 pixels; the backend divides sizes by 1.24.
const FONT: (&str, f64) = ("sans-serif", 12.0 * PIXEL as f64 * 1.24);

const INK: RGBColor = RGBColor(0x1f, 0x24, 0x2b);
const FAINT: RGBColor = RGBColor(0xd7, 0xdc, 0xe2);
const PLAIN: RGBColor = RGBColor(0x6c, 0x75, 0x82);
const STRONG: RGBColor = RGBColor(0x0a, 0x6c, 0x8c);
/// Colours of the charts with what they become in the dark.
const DARK: [(RGBColor, &str); 4] =
    [(INK, "#e4e8ec"), (FAINT, "#363d46"), (PLAIN, "#98a2ae"), (STRONG, "#52bfe0")];

/// Style rules for the dark: SVG attributes know no colour scheme.
pub(super) fn dark_rules() -> String {
    let rule = |(RGBColor(r, g, b), dark): &(RGBColor, &str)| {
        let light = format!("#{r:02X}{g:02X}{b:02X}");
        format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    DARK.iter().map(rule).collect()
}

/// One line of a row chart.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) label: String,
    /// Ends of the mark.
    pub(super) span: (f64, f64),
    /// A dot on an interval; a bar has none.
    pub(super) dot: Option<f64>,
    /// A faint bar from 0 behind the mark: what it is compared with.
    pub(super) under: Option<f64>,
    /// Whether it is the one to look at.
    pub(super) strong: bool,
}

/// Intervals with dots, or bars, on a common scale from 0; the first row is on top.
pub(super) fn rows(title: &str, rows: &[Row]) -> Result<String> {
    let count = rows.len().max(1);
    let largest = rows.iter().map(|row| row.under.unwrap_or(0.0).max(row.span.1)).fold(0.0, f64::max);
    let scale = 0.0..if largest > 0.0 { largest * 1.05 } else { 1.0 };
    // A row is 2 high and its mark in the middle; the axis counts from below.
    let place = |at: usize| 2 * (count - at) as i32 - 1;
    let label = |&middle: &i32| {
        let row = rows.iter().enumerate().find(|(at, _)| place(*at) == middle);
        row.map_or(String::new(), |(_, row)| row.label.clone())
    };
    let places = (0..2 * count as i32).with_key_points((0..rows.len()).map(place).collect());
    draw(title, ROW_HEIGHT * count as u32 + AXIS_HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_right(14 * PIXEL)
            .x_label_area_size(AXIS_HEIGHT)
            .y_label_area_size(LABEL_WIDTH)
            .build_cartesian_2d(scale, places)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().x_labels(4).y_labels(rows.len()).y_label_formatter(&label);
        plain(&mut mesh).draw()?;
        for (at, row) in rows.iter().enumerate() {
            let colour = if row.strong { STRONG } else { PLAIN };
            if let Some(under) = row.under {
                let bar = [(0.0, place(at)), (under, place(at))];
                chart.draw_series([PathElement::new(bar, FAINT.stroke_width(14 * PIXEL))])?;
            }
            let (low, high) = row.span;
            let stroke = colour.stroke_width(if row.dot.is_some() { 2 } else { 12 } * PIXEL);
            chart.draw_series([PathElement::new([(low, place(at)), (high, place(at))], stroke)])?;
            chart.draw_series(
                row.dot.map(|dot| Circle::new((dot, place(at)), 35 * PIXEL / 10, colour.filled())),
            )?;
        }
        Ok(())
    })
}

/// A value by epoch, which counts from 1.
pub(super) fn curve(title: &str, values: &[f64]) -> Result<String> {
    let points: Vec<(f64, f64)> =
        (1u32..).map(f64::from).zip(values.iter().copied()).filter(|(_, value)| value.is_finite()).collect();
    let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| {
        (low.min(*value), high.max(*value))
    });
    // A flat or empty curve still needs an axis.
    let (low, high) = if low < high { (low, high) } else { (0.0, high.max(1.0)) };
    let pad = 0.05 * (high - low);
    draw(title, LINE_HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_right(14 * PIXEL)
            .margin_top(8 * PIXEL)
            .x_label_area_size(40 * PIXEL)
            .y_label_area_size(52 * PIXEL)
            .build_cartesian_2d(1.0..values.len().max(2) as f64, low - pad..high + pad)?;
        let whole = |epoch: &f64| format!("{epoch:.0}");
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh().x_desc("epoch").x_labels(8).y_labels(5).x_label_formatter(&whole);
        plain(&mut mesh).draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), STRONG.stroke_width(2 * PIXEL)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3 * PIXEL, STRONG.filled())))?;
        Ok(())
    })
}

/// A value with its interval at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Ends of the interval of `y`.
    pub(super) span: (f64, f64),
}

/// Smallest share that a logarithmic axis shows.
const LEAST_SHARE: f64 = 1e-4;

/// Shares beside what they should be, on logarithmic axes; what is smaller than they show lies on their edge.
pub(super) fn against_diagonal(title: &str, points: &[Point]) -> Result<String> {
    let shares = points.iter().flat_map(|point| [point.x, point.y]);
    let least = shares.filter(|share| *share > 0.0).fold(0.1, f64::min).max(LEAST_SHARE);
    let floor = 10f64.powf(least.log10().floor());
    let place = |share: f64| share.clamp(floor, 1.0);
    let percent = |share: &f64| format!("{} %", (share * 1e4).round() / 1e2);
    draw(title, DIAGONAL_HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_right(20 * PIXEL)
            .margin_top(8 * PIXEL)
            .x_label_area_size(40 * PIXEL)
            .y_label_area_size(64 * PIXEL)
            .build_cartesian_2d((floor..1.0).log_scale(), (floor..1.0).log_scale())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("predicted").y_desc("observed").x_labels(5).y_labels(5);
        mesh.x_label_formatter(&percent).y_label_formatter(&percent);
        plain(&mut mesh).draw()?;
        chart.draw_series([PathElement::new([(floor, floor), (1.0, 1.0)], PLAIN.stroke_width(PIXEL))])?;
        for point in points {
            let (x, (low, high)) = (place(point.x), point.span);
            let stroke = STRONG.stroke_width(2 * PIXEL);
            chart.draw_series([PathElement::new([(x, place(low)), (x, place(high))], stroke)])?;
            chart.draw_series([Circle::new((x, place(point.y)), 35 * PIXEL / 10, STRONG.filled())])?;
        }
        Ok(())
    })
}

/// The look that all axes share.
fn plain<'m, 'a, 'b, X: Ranged, Y: Ranged, DB: DrawingBackend>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, DB>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, DB> {
    mesh.label_style(FONT.into_font().color(&INK))
        .axis_style(FAINT.stroke_width(PIXEL))
        .bold_line_style(FAINT.stroke_width(PIXEL))
        .light_line_style(TRANSPARENT)
        .set_all_tick_mark_size(4 * PIXEL)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = std::result::Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// Draws on a transparent picture and gives it a name for those who cannot see it.
fn draw(title: &str, height: u32, paint: impl for<'a> FnOnce(&Area<'a>) -> Drawn<'a>) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    paint(&area)
        .and_then(|()| area.present())
        .map_err(|error| Error::new(Code::Internal, "a chart cannot be drawn").found(error))?;
    drop(area);
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", Text(title)), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Row {
        Row { label: label.to_owned(), span: (0.0, value), dot: None, under: None, strong: true }
    }

    #[test]
    fn every_row_has_its_label_however_many_there_are() {
        for count in [1, 2, 3, 12] {
            let all: Vec<Row> = (0..count).map(|at| bar(&format!("row <{at}>"), at as f64)).collect();
            let svg = rows("many", &all).expect("draws");
            for at in 0..count {
                assert_eq!(svg.matches(&format!("row &lt;{at}&gt;")).count(), 1, "{at} of {count}: {svg}");
            }
        }
    }

    #[test]
    fn what_cannot_be_scaled_is_drawn_without_a_mark() {
        for svg in [
            rows("none", &[]),
            rows("zero", &[bar("a", 0.0)]),
            curve("short", &[0.5]),
            curve("none", &[f64::NAN]),
            against_diagonal("none", &[]),
            against_diagonal("zero", &[Point { x: 0.0, y: 0.0, span: (0.0, 0.0) }]),
        ] {
            let svg = svg.expect("draws");
            assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        }
    }
}
