//! `imgsys-poisoned-worker`: a worker that dies of some images, as one with a broken decoder would.

use imgsys_analysis::{AnalysisError, Classification, Classifier, Image, Simulated, View};
use imgsys_faults::cases::POISON;
use imgsys_types::Analyzer;
use imgsys_worker::cli::Cli;
use std::process::ExitCode;

/// Kills the process over poison; everything else is simulated.
#[derive(Debug)]
struct Mortal(Simulated);

impl Classifier for Mortal {
    fn analyzer(&self) -> &Analyzer {
        self.0.analyzer()
    }

    fn view(&self) -> Option<View> {
        self.0.view()
    }

    fn classify(&self, image: &Image<'_>) -> Result<Classification, AnalysisError> {
        if image.inspection.width == POISON {
            std::process::abort();
        }
        self.0.classify(image)
    }
}

fn main() -> ExitCode {
    imgsys_service::run::<Cli, _>(1, |_cli, config, shutdown| async {
        let classifier = Mortal(Simulated::new(config.worker.delay));
        imgsys_worker::run_with(config, Box::new(classifier), shutdown).await
    })
}
