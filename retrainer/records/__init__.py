"""Records for analysis: retraining events, jobs, decisions and deliveries as tables of SQLite or PostgreSQL.

A projection: the retrainer's own store and the control record are the truth, and the tables can be recreated from them.
"""

import logging

logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each of its plugins when it is imported
