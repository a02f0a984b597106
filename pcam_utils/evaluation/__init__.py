"""Predictions and views, metrics with intervals, calibration, the colour baseline, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baseline": ["colour_features", "colour_scores"],
        "calibration": ["apply_temperature", "expected_calibration_error", "fit_temperature"],
        "metrics": ["auc_difference", "auc_interval", "choose_threshold", "evaluate", "operating_point"],
        "plots": ["plot_history", "plot_patches", "plot_precision_recall", "plot_roc"],
        "predictions": ["predict", "predict_views", "write_submission"],
        "scoreboard": ["Scoreboard"],
    },
)
