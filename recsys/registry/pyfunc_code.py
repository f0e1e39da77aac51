"""The file that MLflow stores with a version and executes to serve it.

It holds no logic: what answers requests is the installed package.
"""

from mlflow.models import set_model

from recsys.registry.pyfunc_model import RecommenderModel

set_model(RecommenderModel())
