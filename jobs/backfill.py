"""spark-submit … jobs/backfill.py --config CONFIG --table TABLE: the same as `cdc-sink backfill`."""

from cdc_sink.jobs.backfill import main

if __name__ == "__main__":
    main()
