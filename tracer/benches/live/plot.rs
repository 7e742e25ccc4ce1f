/*! Figures for docs/, as SVG. */

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
    RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::Color as _;

/// Pixels.
const SIZE: (u32, u32) = (860, 480);

/// Colours that are told apart in print and by those who see no red or no green.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// A line of a figure.
pub(crate) struct Line {
    /// Its name.
    pub(crate) name: String,
    /// Where it goes.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether its points are marked.
    pub(crate) marked: bool,
}

/// What a figure shows.
pub(crate) struct Figure {
    /// Above it.
    pub(crate) title: String,
    /// Of the axis to the right, and whether that is logarithmic.
    pub(crate) x: (&'static str, bool),
    /// Of the axis upwards, which is logarithmic.
    pub(crate) y: &'static str,
    /// Its lines.
    pub(crate) lines: Vec<Line>,
}

/// Draws figures one below the other.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn draw(path: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let count = u32::try_from(figures.len())?;
    let area = SVGBackend::new(path, (SIZE.0, SIZE.1 * count)).into_drawing_area();
    let wrong = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| wrong(&error))?;
    for (part, figure) in area.split_evenly((figures.len(), 1)).iter().zip(figures) {
        one(part, figure).map_err(|error| wrong(&error))?;
    }
    area.present().map_err(|error| wrong(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn one(area: &Area<'_>, figure: &Figure) -> anyhow::Result<()> {
    let all = || figure.lines.iter().flat_map(|line| &line.points);
    let least = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(0.0, f64::max);
    let x = (least(|point| point.0), most(|point| point.0));
    let y = (least(|point| point.1) * 0.7)..(most(|point| point.1) * 1.5);
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(&figure.title, ("sans-serif", 18))
        .margin(12)
        .margin_right(36)
        .x_label_area_size(44)
        .y_label_area_size(72);
    macro_rules! fill {
        ($chart:expr) => {{
            let mut chart = $chart;
            chart
                .configure_mesh()
                .x_desc(figure.x.0)
                .y_desc(figure.y)
                .label_style(("sans-serif", 13))
                .x_label_formatter(&number)
                .y_label_formatter(&number)
                .draw()?;
            for (line, colour) in figure.lines.iter().zip(COLOURS.iter().cycle()) {
                let points = line.points.iter().copied();
                chart
                    .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                    .label(line.name.clone())
                    .legend(move |(x, y)| {
                        plotters::element::PathElement::new(
                            vec![(x, y), (x + 18, y)],
                            colour.stroke_width(2),
                        )
                    });
                if line.marked {
                    chart.draw_series(points.map(|at| Circle::new(at, 4, colour.filled())))?;
                }
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .label_font(("sans-serif", 13))
                .background_style(WHITE.mix(0.9))
                .border_style(BLACK.mix(0.3))
                .draw()?;
        }};
    }
    if figure.x.1 {
        fill!(builder.build_cartesian_2d((x.0..x.1).log_scale(), y.log_scale())?);
    } else {
        fill!(builder.build_cartesian_2d(x.0..x.1, y.log_scale())?);
    }
    Ok(())
}

/// `1,000,000`, `0.25`
fn number(value: &f64) -> String {
    if *value < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
