mod golden;
mod hostile;
