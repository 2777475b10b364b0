"""One model or several on the same held-out events, and the numbers of their report.

    evaluate.py  what callers call: a report of one model, or of several
    given_lists.py  lists of models that Segue did not train
    job.py       what every report says beside its measurement: data, settings, learning curve
    lists.py     the report of lists, by NDCG@10
    ratings.py   the report of predicted ratings, by RMSE

The path: each model is measured alone, by `segue.evaluation.protocols` or `ratings`, the baselines
beside the first. A job lays what they ranked or predicted side by side, in the rows of one
catalogue, and hands it to `comparison_report/`.

Knows: recommenders, logs, measurements.
Does not know: what is noise, how a page looks.
"""
