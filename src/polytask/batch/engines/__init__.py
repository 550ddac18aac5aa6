"""`polytask.BatchPredictor` on engines that need more than the class; nothing else imports these modules."""
